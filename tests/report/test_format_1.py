"""Runs of evalkit 0.1, whose records carried their prefill: read by report, compare and rescore.

tests/data/evalkit_0_1 was written by evalkit 0.1.0: the toy task of tests/toy.py and the miniature of Video-XL-2, once
with 2 questions and full attention, once with 5 questions and bi-level decode. Paths and host names were replaced.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from evalkit.compare.command import main as compare
from evalkit.report.command import main as report
from evalkit.runs import read_run
from tests.helpers import run_command
from tests.toy import write_toy

from .conftest import unpacked

STORED = Path(__file__).parent.parent / "data" / "evalkit_0_1"
DENSE, BILEVEL = (Path("toy/videoxl2_mini") / key for key in ("ef3bdc573c2a", "dc7bc463b26c"))


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return Path(shutil.copytree(STORED, tmp_path / "results"))


def test_each_prefill_is_counted_once(results: Path) -> None:
    run = read_run(results / BILEVEL)
    assert [r.question for r in run.records] == ["v0-0", "v0-1", "v0-2", "v1-0", "v1-1"] and run.problems == []
    assert [p.video for p in run.passes] == ["v0.mp4", "v1.mp4"]
    lines = [json.loads(line) for line in (results / BILEVEL / "records.jsonl").read_text().splitlines()]
    for record, line in zip(run.records, lines, strict=True):
        prefill = run.prefills[record.prefill or ""]
        assert prefill.plan["indices"] == line["sampling"]["indices"] and prefill.decoder == "pyav 18.1.0"
        assert (prefill.kv_bytes, record.kv_bytes_used) == (line["kv_bytes"]["dense"], line["kv_bytes"]["used"])
        assert {**prefill.seconds, **record.seconds} == line["seconds"]
        assert {**prefill.tokens, **record.tokens} == line["tokens"]


@pytest.mark.parametrize("run", [DENSE, BILEVEL], ids=["dense", "bilevel"])
def test_a_summary_that_is_made_again_has_the_costs_it_had(results: Path, run: Path) -> None:
    before = json.loads((results / run / "summary.json").read_text())
    (results / run / "summary.json").unlink()
    assert report([str(results), "--plugins", "tests", "--no-samples"]) == 0
    after = json.loads((results / run / "summary.json").read_text())
    for name in ("metric", "value", "n"):  # intervals are computed in another way since
        assert after["scores"]["headline"][name] == before["scores"]["headline"][name]
    named = {"host_peak_bytes": "peak_host_bytes", "device_peak_bytes": "peak_device_bytes"}
    shared = {key: value for key, value in before["efficiency"].items() if named.get(key, key) in after["efficiency"]}
    assert {"prefill_s", "video_decode_s", "kv_bytes_used", "prefills", "ttft_first_s", "frames"} <= shared.keys()
    for key, value in shared.items():
        if value:  # 0 stood for what was not measured
            assert after["efficiency"][named.get(key, key)] == pytest.approx(value, rel=1e-4), key


def test_report_shows_frames_and_chunks(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report([str(results), "--plugins", "tests"]) == 0
    assert "warning" not in capsys.readouterr().err
    _, videos = unpacked(results / "samples" / BILEVEL / "index.html")
    assert [video["said"].partition(";")[0] for video in videos] == [
        "8 frames of 0:02, rule video_xl_2, read by pyav 18.1.0",
        "12 frames of 0:03, rule video_xl_2, read by pyav 18.1.0",
    ]
    questions = [question for video in videos for question in video["questions"]]
    assert len(questions) == 5
    for q in questions:
        assert re.fullmatch(r"\d+ KiB used of (477|704) KiB", dict(fact[:2] for fact in q["facts"])["KV cache"])
        assert "dense" in {kind for _, _, kind, _ in q["spans"]} and " chunks dense, 4 frames each" in q["lines"][0]


def test_compare_reads_both(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare([str(results / DENSE), str(results / BILEVEL), "--plugins", "tests"]) == 0
    out = capsys.readouterr().out
    assert "bilevel_decode off" in out and "other frames were seen" not in out


def test_rescore_grades_again_and_keeps_the_costs(results: Path, tmp_path: Path) -> None:
    data = write_toy(tmp_path / "data")
    words = [str(results / BILEVEL), "task.protocol=strict", f"source.root={data}", "plugins=[tests]", "tracker=csv"]
    done = run_command(*words, module="evalkit.rescore")
    assert done.returncode == 0, done.stderr
    (new,) = {path.parent for path in results.glob("*/*/*/summary.json")} - {results / DENSE, results / BILEVEL}
    old, rescored = read_run(results / BILEVEL), read_run(new)
    assert [r.reply for r in rescored.records] == [r.reply for r in old.records]
    assert {r.protocol for r in rescored.records} == {"strict"}
    assert rescored.prefills == old.prefills and len(rescored.prefills) == 2
    assert json.loads((new / "manifest.json").read_text())["format"] == 2
