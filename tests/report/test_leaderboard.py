"""leaderboard.html, .md and .csv: complete, honest about protocol, coverage and source, and without network."""

from __future__ import annotations

import csv
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from evalkit.report.command import main
from evalkit.report.render import environment
from evalkit.tasks.lvbench import LVBench
from evalkit.tasks.niah import NIAH

from .conftest import Pages, unpacked
from .made import SMALL, Made, Shape, settings, write_run


class Links(HTMLParser):
    """All places that a page leads to or loads from, its ids, and whether its elements are closed in order."""

    VOID = {"meta", "link", "img", "input", "br", "hr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.to: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "href" and value is not None and tag == "a":
                self.to.append(value)
            elif name in ("src", "srcset") or (name == "href" and tag == "link"):
                self.loads.append(value or "")
            elif name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on"), f"{tag} has an inline handler, which the policy stops"
            assert name != "style", f"{tag} has an inline style, which the policy stops"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def pages_of(pages: Pages) -> list[Path]:
    return [pages.results / "leaderboard.html", *sorted((pages.results / "samples").rglob("*.html"))]


def table_of(pages: Pages) -> list[dict[str, str]]:
    with (pages.results / "leaderboard.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_link_leads_somewhere_and_nothing_is_loaded(pages: Pages) -> None:
    known: dict[Path, Links] = {}
    checked = 0
    for page in pages_of(pages):
        links = known.setdefault(page, Links(page.read_text(encoding="utf-8")))
        assert len(set(links.ids)) == len(links.ids), f"{page} has an id twice"
        assert [load for load in links.loads if not load.startswith("data:")] == []
        for link in links.to:
            path, _, anchor = link.partition("#")
            target = (page.parent / unquote(path)).resolve() if path else page
            assert target.is_file(), f"{page.name} leads to {link}"
            if anchor and target.suffix == ".html":
                if target not in known:
                    known[target] = Links(target.read_text(encoding="utf-8"))
                assert anchor in known[target].ids
            checked += 1
    assert checked > 150


def test_each_question_of_another_run_is_on_its_page(pages: Pages) -> None:
    asked = {page: {q["id"] for v in unpacked(page)[1] for q in v["questions"]} for page in map(pages.run, pages.runs)}
    checked = 0
    for page in asked:
        names = json.loads(re.findall(r'id="names">(.*?)</script>', page.read_text(encoding="utf-8"))[0])
        others = [(page.parent / unquote(other["page"])).resolve() for other in names["others"]]
        for question in (q for video in unpacked(page)[1] for q in video["questions"]):
            for number, _, _ in question.get("others", ()):
                assert question["id"] in asked[others[number]]
                checked += 1
    assert checked > 20_000


def test_nothing_names_a_server(pages: Pages) -> None:
    for page in pages_of(pages):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?\s*(?:https?:)?//""", text)
        assert "default-src 'none'" in unescape(text)


def test_each_score_stands_with_interval_n_and_coverage(pages: Pages) -> None:
    rows = table_of(pages)
    own = [row for row in rows if row["kind"] == "own"]
    assert len(own) == len(pages.runs) == 16
    for row in own:
        assert row["protocol"] and row["n"] and row["coverage"] and row["low"] and row["high"]
        shown = f'{float(row["value"]):.1f}</a><span class="interval">{float(row["low"]):.1f}–{float(row["high"]):.1f}'
        assert pages.leaderboard.count(shown) >= 2, "once in the overview, once in the benchmark's own table"


def test_marks_what_is_no_full_result(pages: Pages) -> None:
    text = pages.leaderboard
    assert text.count(">miniature</span>") >= 4 and text.count(">first 60</span>") == 2
    assert text.count(">below coverage</span>") == 2 and "random weights" in text
    markdown = (pages.results / "leaderboard.md").read_text(encoding="utf-8")
    assert "first 60" in markdown and "below coverage" in markdown and "## MLVU (miniature)" in markdown


def test_coverage_never_rounds_up_to_all() -> None:
    percent = environment().filters["percent"]
    assert percent(0.9999) == "99.9%" and percent(1.0) == "100%" and percent(0.0) == "0.0%"


def test_published_rows_stand_apart_with_their_source(pages: Pages) -> None:
    rows = table_of(pages)
    published = [row for row in rows if row["kind"] == "published"]
    assert published and all(row["run"] and not row["rank"] and not row["low"] for row in published)
    own_bodies = re.findall(r"<tbody>(.*?)</tbody>", pages.leaderboard, flags=re.S)
    mixed = [body for body in own_bodies if 'class="published"' in body and 'class="letter"' in body]
    assert mixed == [], "published and own rows share a table body"
    said = "Published under the same protocol, as stated by the source; not ranked"
    assert said in pages.leaderboard, "MLVU under video_xl_2 has published rows"
    for name in re.findall(r'<tbody class="apart">(.*?)</tbody>', pages.leaderboard, flags=re.S):
        assert "protocol not stated" not in name


def test_published_rows_can_be_left_out(pages: Pages, tmp_path: Path) -> None:
    assert main([str(pages.results), "--out", str(tmp_path), "--no-published", "--no-samples"]) == 0
    assert 'class="published"' not in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert not (tmp_path / "samples").exists()
    links = Links((tmp_path / "leaderboard.html").read_text(encoding="utf-8"))
    configs = [link for link in links.to if link.endswith("config.yaml")]
    assert len(configs) == 16 and all((tmp_path / link).resolve().is_file() for link in configs)


def test_markdown_is_a_table_that_names_cannot_break(tmp_path: Path) -> None:
    model = settings(64)
    model.name = "a | b\n| c <script> `x` [y](z)"
    write_run(tmp_path, Made(LVBench(), model, "videoxl2", 0.0, 1), SMALL["lvbench"])
    assert main([str(tmp_path), "--no-samples"]) == 0
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in lines]
    assert set(columns[:3]) == {9} and "<script>" not in text and "\\[y\\]" in text


def test_a_needle_grid_has_its_heatmap(tmp_path: Path) -> None:
    depths = ("0", "0.25", "0.5", "0.75", "1")
    cells = [f"{frames} frames, {depth}" for depth in depths for frames in (128, 256)]
    groups = {"frames": ("128", "256"), "depth": depths, "cell": cells, "needle": ("inserted",)}
    shape = Shape(40, 1, (600.0, 900.0), groups)
    tolerant = {i: {"values": {"tolerant": 1.0}} for i in range(40)}
    write_run(tmp_path, Made(NIAH(), settings(256), "videoxl2", 0.5, 1, change=tolerant), shape)
    assert main([str(tmp_path), "--no-samples"]) == 0
    (figure,) = (tmp_path / "figures").glob("*needle*.svg")
    text = figure.read_text(encoding="utf-8")
    assert text.count('class="cell"') == 10 and "256 frames, depth 0.75: " in text
    assert "Needle grid" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")


def test_each_setting_that_varies_has_a_figure_and_joins_what_differs_in_it_alone(pages: Pages) -> None:
    names = {path.stem for path in (pages.results / "figures").glob("lvbench-*.svg")}
    settings_drawn = {name.removeprefix("lvbench-test-official-") for name in names}
    assert {"frames-max", "bilevel-decode-compression"} <= settings_drawn
    assert not any("chunk-groups" in name for name in names), "no two runs differ in it"
    file = pages.results / "figures" / "lvbench-test-official-bilevel-decode-compression.svg"
    (line,) = re.findall(r'<polyline[^>]* points="([^"]*)"', file.read_text(encoding="utf-8"))
    assert len(line.split()) == 5, "off (chunked prefill, 512 frames), 2, 4, 8 and 16"


def test_results_of_somebody_else_can_be_shown_elsewhere(
    pages: Pages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(results: Path) -> None:
        raise PermissionError(13, "Permission denied", str(results))

    monkeypatch.setattr("evalkit.trackers.csv.rebuild_tables", refused)
    assert main([str(pages.results), "--out", str(tmp_path), "--no-samples"]) == 0
    assert "the tables in" in capsys.readouterr().err and (tmp_path / "leaderboard.html").is_file()
    assert main([str(pages.results), "--no-samples"]) == 1


def test_a_folder_that_cannot_be_written_is_one_message(pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(pages.results), "--out", str(pages.results / "leaderboard.csv" / "deeper")]) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: ") and "--out" in message and len(message.splitlines()) == 1
