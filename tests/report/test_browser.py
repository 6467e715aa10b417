"""The pages as a reader meets them: in a real browser, on a phone, in the dark, without JavaScript."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evalkit.report.command import main
from evalkit.tasks.lvbench import LVBench

from .conftest import Pages
from .made import SHAPES, Made, Shape, settings, write_run

HOSTILE = '<script>window.hit=1</script>"\'><img src=x onerror="window.hit=1"></pre></script><!--\u2028'


def visit(browser: Any, page: Path, script: bool = True, phone: bool = False, dark: bool = False) -> None:
    """Open a page; what stood in the console before is forgotten."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    if phone:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    else:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get_log("browser")
    browser.get(page.as_uri())


def find(browser: Any, selector: str) -> list[Any]:
    return browser.find_elements("css selector", selector)


def shown(browser: Any, selector: str) -> list[Any]:
    return [element for element in find(browser, selector) if element.is_displayed()]


def choose(browser: Any, name: str, value: str) -> None:
    """Pick an option, or type into a field, as a reader does."""
    browser.execute_script(
        "const e = document.querySelector(`[name=${arguments[0]}]`); e.value = arguments[1];"
        "e.dispatchEvent(new Event('input', {bubbles: true}))",
        name,
        value,
    )


def every_kind(pages: Pages) -> list[Path]:
    folder = pages.run(pages.runs[6])
    return [pages.results / "leaderboard.html", folder / "index.html", sorted(folder.glob("video_*.html"))[0]]


@pytest.mark.parametrize("kind", range(3), ids=["leaderboard", "run", "video"])
def test_opens_without_a_complaint(browser: Any, pages: Pages, kind: int) -> None:
    page = every_kind(pages)[kind]
    visit(browser, page)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0, (
        "something was fetched"
    )
    assert len(find(browser, "h1")) == 1
    assert browser.execute_script("return document.documentElement.lang") == "en"


@pytest.mark.parametrize("kind", range(3), ids=["leaderboard", "run", "video"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(browser: Any, pages: Pages, kind: int, dark: bool) -> None:
    visit(browser, every_kind(pages)[kind], phone=True, dark=dark)
    for details in find(browser, "details"):
        browser.execute_script("arguments[0].open = true", details)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    ground = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(21, 23, 27)" if dark else "rgb(255, 255, 255)")


def test_sorts_a_table_both_ways(browser: Any, pages: Pages) -> None:
    visit(browser, pages.results / "leaderboard.html")
    table = find(browser, "section.column table")[0]
    head = next(h for h in table.find_elements("css selector", "thead th") if h.text.startswith("accuracy"))
    values = "return [...arguments[0].tBodies[0].rows].map(r => Number(r.cells[2].dataset.value))"
    head.find_element("css selector", "button").click()
    assert head.get_attribute("aria-sort") == "descending"
    falling = browser.execute_script(values, table)
    assert falling == sorted(falling, reverse=True) and len(set(falling)) > 3
    head.find_element("css selector", "button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert browser.execute_script(values, table) == sorted(falling)
    published = (
        "return [...arguments[0].tBodies].map(b => [...b.rows].filter(r => r.classList.contains('published')).length)"
    )
    assert browser.execute_script(published, table)[0] == 0, "published rows came among the runs' own"


def test_filters_by_benchmark_protocol_setting_and_words(browser: Any, pages: Pages) -> None:
    visit(browser, pages.results / "leaderboard.html")
    everything = len(shown(browser, ".matrix tbody tr"))
    choose(browser, "benchmark", "MLVU")
    assert {s.get_attribute("data-benchmark") for s in shown(browser, "section.column")} == {"MLVU"}
    assert {h.get_attribute("data-benchmark") for h in shown(browser, ".matrix thead th")} == {None, "MLVU"}
    choose(browser, "protocol", "video_xl_2")
    assert len(shown(browser, "section.column")) == 1
    find(browser, "#filters button[type=reset]")[0].click()
    choose(browser, "setting", "bilevel_decode compression=4")
    assert len(shown(browser, ".matrix tbody tr")) == 1
    faint = browser.execute_script("return document.querySelectorAll('svg .off').length")
    assert faint > 0, "figures show what the filter left out as before"
    choose(browser, "setting", "")
    choose(browser, "text", "uniform")
    assert [row.get_attribute("data-text") for row in shown(browser, ".matrix tbody tr")] == ["Uniform 32"]
    choose(browser, "text", "")
    assert len(shown(browser, ".matrix tbody tr")) == everything


def test_shows_figures(browser: Any, pages: Pages) -> None:
    visit(browser, pages.results / "leaderboard.html")
    figures = shown(browser, "section.column figure svg")
    assert len(figures) >= 4
    assert all(figure.rect["width"] > 250 and figure.rect["height"] > 100 for figure in figures)
    circles = browser.execute_script(
        "return [...arguments[0].querySelectorAll('circle')].map(c => getComputedStyle(c).fill)", figures[0]
    )
    assert len(circles) > 5 and "rgb(28, 95, 184)" in circles, "figures lost their style"


def test_figures_stand_alone(browser: Any, pages: Pages) -> None:
    files = sorted((pages.results / "figures").glob("*.svg"))
    assert len(files) > 10
    for file in files[:3]:
        visit(browser, file)
        assert browser.execute_script("return document.documentElement.tagName") == "svg"
        assert browser.execute_script("return document.querySelectorAll('text').length") > 3
        assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def test_reads_without_javascript(browser: Any, pages: Pages) -> None:
    leaderboard, run, video = every_kind(pages)
    visit(browser, leaderboard, script=False)
    assert not shown(browser, "#filters") and not find(browser, "thead button")
    assert len(shown(browser, ".matrix tbody tr")) == len(find(browser, ".matrix tbody tr")) > 5
    visit(browser, run, script=False)
    assert not shown(browser, "#filters")
    assert len(find(browser, ".list tbody tr")) == 240
    find(browser, ".list tbody a")[7].click()
    assert "#q-" in browser.current_url and shown(browser, "article:target pre")
    visit(browser, video, script=False)
    assert len(shown(browser, "article")) == 6


def test_filters_questions_and_finds_what_changed(browser: Any, pages: Pages) -> None:
    visit(browser, pages.run(pages.runs[6]) / "index.html")
    total = len(find(browser, ".list tbody tr"))
    choose(browser, "mark", "wrong")
    wrong = shown(browser, ".list tbody tr")
    assert 0 < len(wrong) < total and {row.get_attribute("data-mark") for row in wrong} == {"wrong"}
    assert find(browser, "#shown")[0].text == f"{len(wrong)} of {total}"
    choose(browser, "mark", "")
    choose(browser, "other", "0")
    choose(browser, "change", "gained")
    gained = shown(browser, ".list tbody tr")
    assert gained and {row.get_attribute("data-mark") for row in gained} == {"right"}
    assert all(row.find_elements("css selector", "td")[4].text == "wrong" for row in gained)
    told = find(browser, "details .plain tbody tr")[0]
    assert browser.execute_script("return arguments[0].cells[1].textContent", told) == str(len(gained))
    choose(browser, "change", "")
    choose(browser, "text", "video_007")
    assert len(shown(browser, ".list tbody tr")) == 6


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs whose model and data set try to write markup wherever they are quoted."""
    results = tmp_path_factory.mktemp("hostile")
    fields = {
        "reply": HOSTILE, "prompt": f"{HOSTILE}?", "extracted": HOSTILE, "gold": HOSTILE, "note": HOSTILE,
        "rule": HOSTILE, "question": f"q{HOSTILE}", "video": f"v{HOSTILE}", "remarks": [HOSTILE],
        "groups": {"type": [HOSTILE], HOSTILE: [HOSTILE]}, "values": {HOSTILE: 1.0},
    }  # fmt: skip
    error = {"kind": HOSTILE, "message": HOSTILE}
    change = {0: fields, 1: {"status": "failed", "score": None, "error": error}}
    shape = Shape(4, 3, (60.0, 90.0), {"type": ("cartoon", "live")})
    model = settings(64)
    model.name = f"Video {HOSTILE}"
    run = write_run(results, Made(LVBench(), model, "videoxl2", 0.0, 1, change=change), shape)
    other = settings(128)
    other.name = model.name
    write_run(results, Made(LVBench(), other, "videoxl2", 0.0, 2, change=change), shape)
    assert main([str(results)]) == 0
    return results, results / "samples" / run.relative_to(results)


def test_injected_markup_is_text(browser: Any, hostile: tuple[Path, Path]) -> None:
    results, folder = hostile
    files = [results / "leaderboard.html", *sorted(folder.glob("*.html"))]
    assert len(files) == 7
    for file in files:
        visit(browser, file)
        assert browser.execute_script("return window.hit === undefined"), f"{file.name} ran injected code"
        assert browser.get_log("browser") == [], f"{file.name} was stopped by its policy alone"
        assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    visit(browser, next(file for file in files if file.name.startswith("v-script")))
    said = browser.execute_script("return [...document.querySelectorAll('article pre')].map(e => e.textContent)")
    assert said[:2] == [f"{HOSTILE}?", HOSTILE]


def test_policy_stops_what_slips_through(browser: Any, pages: Pages, tmp_path: Path) -> None:
    """The second line of defence: markup that got into a page unescaped cannot run or fetch anything."""
    page = tmp_path / "broken.html"
    attack = "<script>window.hit=1</script><img src=x onerror='window.hit=1'><img src='http://127.0.0.1:9/beacon.png'>"
    page.write_text(pages.leaderboard.replace("<main>", f"<main>{attack}", 1), encoding="utf-8")
    visit(browser, page)
    assert browser.execute_script("return window.hit === undefined")
    assert shown(browser, "#filters"), "the page's own script has to run"


def test_two_thousand_questions_open_at_once(browser: Any, tmp_path: Path) -> None:
    shape = replace(SHAPES["lvbench"], videos=134)
    runs = [write_run(tmp_path, Made(LVBench(), settings(n), "videoxl2", 0.2, n), shape) for n in (64, 128)]
    assert main([str(tmp_path)]) == 0
    spent = []
    for _ in range(3):
        visit(browser, tmp_path / "samples" / runs[0].relative_to(tmp_path) / "index.html")
        spent.append(
            browser.execute_script(
                "const [e] = performance.getEntriesByType('navigation');"
                "return new Promise(r => requestAnimationFrame(() => setTimeout(() => r(performance.now()))))"
            )
        )
    assert len(find(browser, ".list tbody tr")) == 2010
    assert min(spent) < 2000, f"opened in {spent} ms"
    choose(browser, "mark", "wrong")
    assert 0 < len(find(browser, ".list tbody tr:not([hidden])")) < 2010
