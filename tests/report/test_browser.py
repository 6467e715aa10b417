"""The pages as a reader meets them: in a real browser, on a phone, in the dark, without JavaScript."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from evalkit.report.command import main
from evalkit.report.samples import BLOCK
from evalkit.tasks.lvbench import LVBench

from .conftest import Pages, page_of
from .made import SHAPES, Made, Shape, settings, write_run

HOSTILE = '<script>window.hit=1</script>"\'><img src=x onerror="window.hit=1"></pre></script><!--\u2028'


def visit(browser: Any, page: Path, script: bool = True, phone: bool = False, dark: bool = False, at: str = "") -> None:
    """Open a page at the fragment `at` and wait until it shows its data; what stood in the console is forgotten."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    size = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    if phone:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    else:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    browser.get_log("browser")
    browser.get("about:blank")  # another fragment of the same page would load nothing
    browser.get(page.as_uri() + (f"#{at}" if at else ""))
    if script and page.name == "index.html":
        ready(browser)


def ready(browser: Any) -> None:
    """Wait until the page of a run has decompressed its list."""
    until(browser, "return document.body.dataset.ready === 'true'")


def until(browser: Any, condition: str, *arguments: object) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 10, 0.02).until(lambda driver: driver.execute_script(condition, *arguments))


def of_video(name: str) -> str:
    """A condition: the view of the video is shown."""
    return f"return document.querySelector('#video h1')?.textContent === {json.dumps(name)}"


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


def every_kind(pages: Pages) -> list[tuple[Path, str]]:
    """(page, fragment) of each kind of view."""
    run = pages.run(pages.runs[6])
    return [(pages.results / "leaderboard.html", ""), (run, ""), (run, "video=video_000")]


@pytest.mark.parametrize("kind", range(3), ids=["leaderboard", "run", "video"])
def test_opens_without_a_complaint(browser: Any, pages: Pages, kind: int) -> None:
    page, at = every_kind(pages)[kind]
    visit(browser, page, at=at)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0, (
        "something was fetched"
    )
    assert len(shown(browser, "h1")) == 1 and not shown(browser, "#failure")
    assert browser.execute_script("return document.documentElement.lang") == "en"


@pytest.mark.parametrize("kind", range(3), ids=["leaderboard", "run", "video"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_no_page_scrolls_sideways_on_a_phone(browser: Any, pages: Pages, kind: int, dark: bool) -> None:
    page, at = every_kind(pages)[kind]
    visit(browser, page, phone=True, dark=dark, at=at)
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


@pytest.mark.parametrize("kind", [1, 2], ids=["run", "video"])
def test_no_table_is_wider_than_its_box(browser: Any, pages: Pages, kind: int) -> None:
    page, at = every_kind(pages)[kind]
    visit(browser, page, at=at)
    wide = (
        "return [...document.querySelectorAll('.scroll, .film')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert browser.execute_script(wide) == 0 or kind == 0
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 1280


def test_without_javascript_the_leaderboard_reads_and_a_run_says_what_it_needs(browser: Any, pages: Pages) -> None:
    visit(browser, pages.results / "leaderboard.html", script=False)
    assert not shown(browser, "#filters") and not find(browser, "thead button")
    assert len(shown(browser, ".matrix tbody tr")) == len(find(browser, ".matrix tbody tr")) > 5
    run = pages.run(pages.runs[6])
    visit(browser, run, script=False)
    assert not shown(browser, "#filters") and not shown(browser, "#list")
    assert [text.text.partition(":")[0] for text in shown(browser, "noscript p")] == ["This page needs JavaScript"]
    assert shown(browser, ".numbers"), "the scores stand in the page itself"


def test_filters_questions_and_finds_what_changed(browser: Any, pages: Pages) -> None:
    visit(browser, pages.run(pages.runs[6]))
    total = len(find(browser, ".list tbody tr"))
    assert total == 240
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


def test_goes_from_the_list_to_a_question_and_on_to_other_videos_and_runs(browser: Any, pages: Pages) -> None:
    visit(browser, pages.run(pages.runs[6]))
    links = find(browser, ".list tbody a")
    links[100].click()
    until(browser, of_video("video_016"))
    browser.back()
    until(browser, "return !document.getElementById('overview').hidden")
    assert browser.execute_script("return scrollY") > 2000, "the list stands where it was left"
    links[7].click()
    until(browser, of_video("video_001"))
    assert browser.current_url.endswith("#q=lvbench-1-1") and not shown(browser, "#overview")
    (target,) = shown(browser, "article.target")
    assert target.get_attribute("data-question") == "lvbench-1-1" and len(shown(browser, "article")) == 6
    ticks = browser.execute_script("return document.querySelector('#video path.stroke').getAttribute('d')")
    assert ticks.count("M") == 512 and ticks.startswith("M0,0V10M1.9,0V10")
    assert len(find(browser, "article.target rect.dense")) > 1 and find(browser, "article.target rect.pooled")
    find(browser, "a[rel=next]")[0].click()
    until(browser, of_video("video_002"))
    browser.execute_script("document.activeElement.blur()")
    browser.execute_script("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}))")
    until(browser, of_video("video_001"))
    chips = find(browser, "article .chips a")
    assert len(chips) == 60
    chips[0].click()
    ready(browser)
    assert "#q=lvbench-1-0" in browser.current_url and pages.run(pages.runs[6]).as_uri() not in browser.current_url
    assert shown(browser, "article.target")
    find(browser, "#to-list")[0].click()
    until(browser, "return !document.getElementById('overview').hidden")
    assert not shown(browser, "#video") and shown(browser, ".list tbody tr")


def test_names_what_an_address_does_not_find(browser: Any, pages: Pages) -> None:
    visit(browser, pages.run(pages.runs[6]), at="q=gone")
    assert [e.text for e in shown(browser, "#failure")] == ['This run has no question "gone".']
    assert shown(browser, ".list tbody tr")


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
    return results, page_of(results, run)


def test_injected_markup_is_text(browser: Any, hostile: tuple[Path, Path]) -> None:
    results, page = hostile
    views = [(results / "leaderboard.html", ""), (page, "")]
    views += [(page, f"{kind}={quote(name)}") for kind, name in (("video", f"v{HOSTILE}"), ("q", f"q{HOSTILE}"))]
    views += [(page, "video=video_000"), (page, f"q={quote(HOSTILE)}")]
    for file, at in views:
        visit(browser, file, at=at)
        assert browser.execute_script("return window.hit === undefined"), f"{file.name}#{at} ran injected code"
        assert browser.get_log("browser") == [], f"{file.name}#{at} was stopped by its policy alone"
        assert browser.execute_script("return document.querySelectorAll('img[src=x]').length") == 0
    visit(browser, page, at=f"q={quote(f'q{HOSTILE}')}")
    texts = "return [...document.querySelectorAll(arguments[0])].map(e => e.textContent)"
    assert browser.execute_script(texts, "article.target pre") == [f"{HOSTILE}?", HOSTILE]
    assert browser.execute_script(texts, "#video h1") == [f"v{HOSTILE}"]
    said = browser.execute_script(texts, "article.target")[0]
    assert said.count(HOSTILE) >= 9, "id, group names and labels, prompt, reply, extracted, gold, rule, note, remark"
    assert find(browser, "article.target .chips a"), "the other run was asked the same"
    listed = browser.execute_script(texts, ".list tbody tr:first-child")[0]
    assert listed.count(HOSTILE) >= 3
    visit(browser, page, at="video=video_000")
    assert f"{HOSTILE} {HOSTILE}" in browser.execute_script(texts, "article .error")


def test_policy_stops_what_slips_through(browser: Any, pages: Pages, tmp_path: Path) -> None:
    """The second line of defence: markup that got into a page unescaped cannot run or fetch anything."""
    page = tmp_path / "broken.html"
    attack = "<script>window.hit=1</script><img src=x onerror='window.hit=1'><img src='http://127.0.0.1:9/beacon.png'>"
    page.write_text(pages.leaderboard.replace("<main>", f"<main>{attack}", 1), encoding="utf-8")
    visit(browser, page)
    assert browser.execute_script("return window.hit === undefined")
    assert shown(browser, "#filters"), "the page's own script has to run"


def test_thousands_of_questions_are_shown_in_steps(browser: Any, tmp_path: Path) -> None:
    """Several blocks of videos; the list and a video of the last block open in less than two seconds."""
    shape = replace(SHAPES["lvbench"], videos=2 * BLOCK + 10, questions=5)
    run = write_run(tmp_path, Made(LVBench(), settings(64), "videoxl2", 0.2, 1), shape)
    assert main([str(tmp_path)]) == 0
    page = page_of(tmp_path, run)
    spent = []
    for _ in range(3):
        visit(browser, page)
        spent.append(browser.execute_script("return performance.now()"))
    assert min(spent) < 2000, f"opened in {spent} ms"
    assert len(find(browser, "script.full")) == 3
    assert find(browser, "#shown")[0].text == "2,050 of 2,050"
    assert len(find(browser, ".list tbody tr")) == 500
    find(browser, "#more")[0].click()
    assert len(find(browser, ".list tbody tr")) == 1000
    choose(browser, "text", "video_409")
    assert len(find(browser, ".list tbody tr")) == 5 and not shown(browser, "#more")
    find(browser, ".list tbody a")[4].click()
    until(browser, of_video("video_409"))
    assert shown(browser, "article.target") and not shown(browser, "a[rel=next]")
