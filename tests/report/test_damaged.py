"""Damaged run folders beside good ones: each costs itself, or a line of it, and is named; the others are shown."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalkit.compare.command import main as compare
from evalkit.report.command import main as report
from evalkit.report.entries import collect
from tests.helpers import ROOT, run_here, toy_arguments
from tests.toy import write_toy

DEEP = "[" * 100_000


def append(name: str, text: str) -> Callable[[Path], None]:
    """Put a line into the middle of a file."""

    def change(run: Path) -> None:
        first, *rest = (run / name).read_text().splitlines(keepends=True)
        (run / name).write_text("".join([first, text + "\n", *rest]))

    return change


def replaced(name: str, text: str) -> Callable[[Path], None]:
    return lambda run: (run / name).write_text(text) and None


def field(name: str, value: object) -> Callable[[Path], None]:
    """Change a field of the second record."""

    def change(run: Path) -> None:
        lines = (run / "records.jsonl").read_text().splitlines()
        lines[1] = json.dumps({**json.loads(lines[1]), name: value})
        (run / "records.jsonl").write_text("\n".join(lines) + "\n")

    return change


def key(name: str, dotted: str, value: object) -> Callable[[Path], None]:
    """Change a key of a JSON file."""

    def change(run: Path) -> None:
        content = json.loads((run / name).read_text())
        node = content
        *parents, last = dotted.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = value
        (run / name).write_text(json.dumps(content))

    return change


LINES: dict[str, Callable[[Path], None]] = {
    "a list": append("records.jsonl", "[1]"),
    "null": append("records.jsonl", "null"),
    "NaN": append("records.jsonl", "NaN"),
    "no JSON": append("records.jsonl", "{oops"),
    "deep nesting": append("records.jsonl", DEEP),
    "no record": append("records.jsonl", "{}"),
    "a number as id": field("question", 7),
    "a list as id": field("question", ["a", 1]),
    "null as video": field("video", None),
    "a text as score": field("score", "1"),
    "a huge score": field("score", 10**400),
    "a list of groups": field("groups", ["kind"]),
    "a number among labels": field("groups", {"kind": [1]}),
    "another status": field("status", "fine"),
    "a prefill that is none": append("prefills.jsonl", "[1]"),
    "a prefill without a plan": append("prefills.jsonl", '{"id": "x", "video": "v", "plan": 3}'),
}
"""What damages a line: the line is named, and the rest of the run is shown."""

FILES: dict[str, Callable[[Path], None]] = {
    "an empty manifest": replaced("manifest.json", ""),
    "a manifest that is a list": replaced("manifest.json", "[]"),
    "a deep manifest": replaced("manifest.json", DEEP),
    "a config that is no YAML": replaced("config.yaml", "task: [\n"),
    "a model that is a number": key("manifest.json", "identity.model", 3),
    "a task that is a list": key("manifest.json", "identity.task", [1]),
}
"""What damages a run: it is named and left out."""

MENDED: dict[str, Callable[[Path], None]] = {
    "an empty summary": replaced("summary.json", ""),
    "a summary without scores": replaced("summary.json", "{}"),
    "a summary with a NaN": key("summary.json", "scores.headline.value", float("nan")),
    "remarks that are a number": key("summary.json", "remarks", 3),
    "axes without a value": key("summary.json", "axes", [{"key": "frames"}]),
    "half a surrogate pair in a reply": field("reply", "\ud800"),
    "half a surrogate pair in a summary": key("summary.json", "remarks", ["\udc00"]),
    "half a surrogate pair in a manifest": key("manifest.json", "identity.model.name", "a\ud800"),
    "a long video name": field("video", "v" * 300),
    "a long id": field("question", "q" * 300),
}
"""What can be shown all the same, as it is or computed again."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(data, results) with one good run."""
    root = tmp_path_factory.mktemp("good")
    data = write_toy(root / "data", videos=2)
    assert run_here([*toy_arguments(data, root / "results", "task.allow_missing=true", "min_coverage=0")]) == 0
    return data, root / "results"


def gallery(good: Path, into: Path, *kinds: dict[str, Callable[[Path], None]]) -> dict[str, Path]:
    """A copy of the good run, and one for each kind of damage."""
    (run,) = {path.parent for path in good.glob("*/*/*/records.jsonl")}
    shutil.copytree(run, into / run.relative_to(good))
    made = {}
    for number, (name, change) in enumerate(item for kind in kinds for item in kind.items()):
        made[name] = Path(shutil.copytree(run, into / "toy" / "constant" / f"{number:012x}"))
        change(made[name])
    return made


def test_one_bad_run_costs_itself_and_one_bad_line_too(
    good: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    made = gallery(good[1], results, LINES, FILES, MENDED)
    assert report([str(results), "--plugins", "tests", "--thumbnails", "0"]) == 0
    warnings = capsys.readouterr().err.splitlines()
    assert all(line.startswith("warning: ") for line in warnings)
    page = (results / "leaderboard.html").read_text(encoding="utf-8")
    for name, run in made.items():
        named = [line for line in warnings if str(run) in line]
        assert bool(named) == (name not in MENDED), (name, named)
        assert (results / "samples" / run.relative_to(results) / "index.html").is_file() == (name not in FILES), name
        if name in LINES:
            assert "line 2 is not a " in named[0] and run.name in page, name
    assert len(collect(results, ("tests",)).entries) == 1 + len(LINES) + len(MENDED)


@pytest.mark.parametrize("name", ["a list", "deep nesting", "a number as id"])
def test_compare_goes_on_without_a_damaged_line(
    good: tuple[Path, Path], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = gallery(good[1], tmp_path, {"": lambda run: None, name: LINES[name]})
    key("manifest.json", "identity.model.reply", "B")(made[name])
    assert compare([*map(str, made.values()), "--plugins", "tests"]) == 0
    assert f"{made[name]}/records.jsonl, line 2 is not a record" in capsys.readouterr().out


@pytest.mark.parametrize("name", FILES)
def test_compare_names_what_cannot_be_read(
    good: tuple[Path, Path], tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = gallery(good[1], tmp_path, {"": lambda run: None, name: FILES[name]})
    assert compare([*map(str, made.values()), "--plugins", "tests"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and len(told.splitlines()) == 1 and str(made[name]) in told


def test_a_run_of_an_unlisted_plugin_costs_a_note(good: tuple[Path, Path], tmp_path: Path) -> None:
    gallery(good[1], tmp_path)
    words = [sys.executable, "-m", "evalkit.report", str(tmp_path), "--no-samples"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "tests.toy.Toy" in (tmp_path / "leaderboard.html").read_text(encoding="utf-8")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["records.jsonl", "prefills.jsonl", "manifest.json", "summary.json"]),
    st.data(),
)
def test_whatever_a_value_is_the_good_run_is_read(good: tuple[Path, Path], name: str, data: st.DataObject) -> None:
    (run,) = {path.parent for path in good[1].glob("*/*/*/records.jsonl")}
    results = run.parents[2] / "fuzz"
    shutil.rmtree(results, ignore_errors=True)
    first, bad = (Path(shutil.copytree(run, results / "toy" / "constant" / key)) for key in ("good", "bad"))
    lines = (bad / name).read_text().splitlines() if name.endswith("l") else [(bad / name).read_text()]
    content = json.loads(lines[-1])
    nodes = [content, *(value for value in content.values() if isinstance(value, dict))]
    node = data.draw(st.sampled_from([n for n in nodes if n]))
    node[data.draw(st.sampled_from(sorted(node)))] = data.draw(json_values)
    (bad / name).write_text("\n".join([*lines[:-1], json.dumps(content)]) + "\n")
    found = collect(results, ("tests",))
    assert first in [entry.path for entry in found.entries]
    assert len(found.entries) + len(found.left_out) == 2
    assert report([str(results), "--plugins", "tests", "--thumbnails", "0"]) == 0
