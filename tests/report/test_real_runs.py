"""Runs as `python -m evalkit` makes them, of a stranger's task: leaderboard, questions, comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evalkit.compare.command import main as compare
from evalkit.report.command import main as report
from tests.helpers import run_here, toy_arguments
from tests.toy import write_toy

from .conftest import unpacked


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    data = write_toy(root / "data")
    for more in (["model.reply=A"], ["model.reply=B"], ["model.reply=A", "model.frames=8"]):
        assert run_here(toy_arguments(data, root / "results", *more)) == 0
    assert run_here(toy_arguments(data, root / "results", "model.reply=C", "model.fail_on=v2")) == 3
    return root / "results"


def test_pages_of_real_runs(results: Path, tmp_path: Path) -> None:
    assert report([str(results), "--out", str(tmp_path), "--thumbnails", "3", "--plugins", "tests"]) == 0
    text = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert "Toy Videos" in text and "reply=A" in text and "_target_" not in text
    assert text.count(">below coverage</span>") == 2
    found = [unpacked(page) for page in tmp_path.glob("samples/toy/*/*/index.html")]
    assert len(found) == 4
    assert "Which colour is shown (0)?" in [q[2] for _, questions in found[0][0] for q in questions]
    assert len(list((tmp_path / "samples" / "thumbnails").glob("*.jpg"))) == 8, "four videos at 4 frames and at 8"
    failed = [q for _, videos in found for video in videos for q in video["questions"] if "error" in q]
    assert len(failed) == 3


def test_without_the_plugin_runs_are_shown_and_not_ranked(results: Path, tmp_path: Path) -> None:
    assert report([str(results), "--out", str(tmp_path), "--no-samples"]) == 0
    text = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert "not ranked: task._target_" in text and "tests.toy.Toy" in text


def test_a_summary_of_a_real_run_is_made_again_as_it_was(results: Path, tmp_path: Path) -> None:
    for path in results.glob("*/*/*/summary.json"):
        before = json.loads(path.read_text(encoding="utf-8"))
        path.unlink()
        assert report([str(results), "--out", str(tmp_path), "--no-samples", "--plugins", "tests"]) == 0
        assert json.loads(path.read_text(encoding="utf-8")) == before


def test_comparison_of_real_runs(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_reply: dict[str, Path] = {}
    for path in results.glob("*/*/*/manifest.json"):
        model = json.loads(path.read_text(encoding="utf-8"))["identity"]["model"]
        by_reply[f"{model['reply']}{model['frames']}"] = path.parent
    assert compare([str(by_reply["A4"]), str(by_reply["B4"]), "--plugins", "tests"]) == 0
    out = capsys.readouterr().out
    assert "warning" not in out and "A  reply=A: accuracy" in out and "B  reply=B: accuracy" in out
    assert compare([str(by_reply["A4"]), str(by_reply["A8"]), "--plugins", "tests"]) == 0
    out = capsys.readouterr().out
    assert "score the same accuracy" in out and "equal answers 100.0% (kappa -)" in out
    assert compare([str(by_reply["A8"]), str(by_reply["B4"]), "--plugins", "tests"]) == 0
    assert "more than one thing differs: " in capsys.readouterr().out
    assert compare([str(by_reply["A4"]), str(by_reply["B4"])]) == 1
    assert "tests.toy.Toy" in capsys.readouterr().err
