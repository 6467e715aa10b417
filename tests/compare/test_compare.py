"""python -m evalkit.compare: the settings that differ, the difference in scores, and the verdict."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from evalkit.compare.command import main
from evalkit.compare.comparison import compare_runs
from evalkit.compare.subjects import Differing, warning
from evalkit.models.videoxl2.settings import BilevelDecode, FrameSettings, SparsePrefill, VideoXL2
from evalkit.tasks.lvbench import LVBench
from evalkit.tasks.mlvu import MLVU
from tests.replay import lvbench_records, needs_replay

from ..report.made import SMALL, Lines, Made, settings, simulate, write_lines, write_run

SHAPE = SMALL["lvbench"]


def run(results: Path, model: VideoXL2, ability: float, seed: int, **more: object) -> Path:
    return write_run(results, Made(LVBench(), model, "videoxl2", ability, seed, **more), SHAPE)  # type: ignore[arg-type]


def compared(*runs: Path, tmp: Path) -> dict:
    """What --json writes."""
    assert main([*map(str, runs), "--json", str(tmp / "comparison.json")]) == 0
    return json.loads((tmp / "comparison.json").read_text(encoding="utf-8"))


@needs_replay
def test_published_settings_of_video_xl_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The authors' LVBench answers: differences and intervals as computed from their logs by other code."""
    models = {
        "pure": settings(600),
        "w_chunk": settings(600, sparse=True),
        "w_chunk_bilevel": settings(600, compression=4),
    }
    runs = []
    for seed, (setting, model) in enumerate(models.items()):
        made = Made(LVBench(), model, "videoxl2", 0.0, seed)
        runs.append(write_lines(tmp_path, made, Lines(lvbench_records(setting))))
    found = compared(*runs, tmp=tmp_path)
    expected = {
        ("A", "B"): (-1.03, -2.04, 0.00, 24, 40, 0.0458),
        ("A", "C"): (0.97, -0.73, 2.65, 98, 83, 0.2635),
        ("B", "C"): (2.00, 0.38, 3.61, 103, 72, 0.0176),
    }
    for pair in found["pairs"]:
        delta, low, high, gained, lost, p = expected[pair["a"], pair["b"]]
        d = pair["headline"]
        assert d["delta"] == pytest.approx(delta, abs=0.005) and d["p"] == pytest.approx(p, rel=0.01)
        assert (d["low"], d["high"]) == pytest.approx((low, high), abs=0.1)
        assert (d["gained"], d["lost"]) == (gained, lost) == (len(pair["gained"]), len(pair["lost"]))
        assert not pair["significant"]
    adjusted = {(pair["a"], pair["b"]): round(pair["p_holm_pairs"], 3) for pair in found["pairs"]}
    assert adjusted[("B", "C")] == pytest.approx(3 * 0.0177, abs=0.001)
    assert found["verdict"] == "None of the 3 pairs differs by more than chance explains, all pairs considered."
    assert found["verdict"] in capsys.readouterr().out


def test_a_clean_comparison_has_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = run(tmp_path, settings(256), 0.2, 1)
    b = run(tmp_path, settings(256, sparse=True), 0.2, 2)
    found = compared(a, b, tmp=tmp_path)
    assert found["warning"] is None
    assert {d["subject"] for d in found["differing"]} == {"sparse_prefill"}
    out = capsys.readouterr().out
    assert "warning" not in out and "no more than chance explains" in out and "sparse_prefill off" in out


def edited(path: Path, change: Mapping[str, object]) -> None:
    """Change a manifest: dotted keys to new values."""
    manifest = json.loads((path / "manifest.json").read_text())
    for key, value in change.items():
        node = manifest
        *parents, last = key.split(".")
        for parent in parents:
            node = node[parent]
        node[last] = value
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"identity.model.frames.max": 300}, "the frames"),
        ({"weights.revision": "finetune_stage4"}, "the checkpoint"),
        ({"identity.model.checkpoint": "elsewhere"}, "the checkpoint"),
        ({"identity.model.dtype": "float16"}, "the checkpoint"),
        ({"code.source_sha256": "01" * 32}, "the code"),
        ({"data.questions_sha256": "01" * 32}, "the data"),
        ({"identity.decoding.max_new_tokens": 512}, "token generation"),
        ({"identity.video.backend": "decord"}, "video decoding"),
        ({"identity.task.protocol": "lmms_eval"}, "the protocol"),
        ({"identity.model.bilevel_decode.enabled": True}, "bilevel_decode"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_whatever_else_differs_is_warned_of(
    tmp_path: Path, change: Mapping[str, object], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    a = run(tmp_path, settings(256), 0.2, 1)
    b = run(tmp_path, settings(256, sparse=True), 0.2, 2)
    edited(b, change)
    found = compared(a, b, tmp=tmp_path)
    assert found["warning"] and named in found["warning"] and "sparse_prefill" in found["warning"]
    assert f"warning: {found['warning']}" in capsys.readouterr().out


def test_packages_and_hardware_are_listed_without_a_warning(tmp_path: Path) -> None:
    a = run(tmp_path, settings(256), 0.2, 1)
    b = run(tmp_path, settings(256, sparse=True), 0.2, 2)
    edited(b, {"packages.torch": "2.12.0", "hardware.gpu": "NVIDIA A100"})
    found = compared(a, b, tmp=tmp_path)
    assert found["warning"] is None
    assert {d["key"] for d in found["differing"]} >= {"packages.torch", "hardware.gpu"}


def test_another_model_is_one_thing_and_other_frames_a_second() -> None:
    model = [Differing("model", "model.id", ("a", "b")), Differing("model", "model.dtype", ("x", "y"))]
    assert warning(model) is None
    told = warning([*model, Differing("frames", "model.frames.max", ("1", "2"))])
    assert told is not None and told.startswith("more than one thing differs: the model and the frames.")


def test_a_limited_run_is_compared_on_what_both_were_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = run(tmp_path, settings(256), 0.2, 1)
    b = run(tmp_path, settings(256, sparse=True), 0.2, 2, limit=90)
    edited(b, {"data.questions_sha256": "01" * 32})  # of fewer questions, as it is in a limited run
    found = compared(a, b, tmp=tmp_path)
    assert found["warning"] is None and found["pairs"][0]["questions"] == 90 and found["pairs"][0]["only_a"] == 150
    assert "left out: 150 questions that only A has, 0 that only B has" in capsys.readouterr().out


def test_the_verdict_on_a_large_difference_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = run(tmp_path, settings(128), -1.5, 1), run(tmp_path, settings(256), 1.5, 2)
    found = compare_runs([a, b])
    assert found.pairs[0].significant
    assert "more than chance explains" in found.verdict and found.verdict.count("B (frames.max=256)") == 1
    assert main([str(a), str(b), "--markdown"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("## LVBench (test), protocol official") and f"**{found.verdict}**" in out
    tables = [block for block in out.split("\n\n") if block.startswith("|")]
    assert len(tables) >= 3
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_gained_and_lost_are_what_the_records_say(tmp_path: Path) -> None:
    """Against the slow way: each question looked up in both files."""
    runs = [run(tmp_path, settings(128), 0.0, 1), run(tmp_path, settings(256), 0.4, 2)]
    scores = []
    for path in runs:
        lines = (path / "records.jsonl").read_text(encoding="utf-8").splitlines()
        scores.append({(r := json.loads(line))["question"]: r["score"] for line in lines})
    (pair,) = compare_runs(runs).pairs
    assert set(pair.gained) == {q for q in scores[0] if scores[1][q] > scores[0][q]} != set()
    assert set(pair.lost) == {q for q in scores[0] if scores[1][q] < scores[0][q]} != set()


def test_three_runs_are_corrected_for_three_pairs(tmp_path: Path) -> None:
    runs = [run(tmp_path, settings(n), ability, n) for n, ability in ((64, -1.6), (128, 0.1), (256, 0.1))]
    found = compare_runs(runs)
    assert [(p.a.letter, p.b.letter, p.significant) for p in found.pairs] == [
        ("A", "B", True), ("A", "C", True), ("B", "C", False),
    ]  # fmt: skip
    assert all((p.p_holm or 0) >= (p.comparison.headline.p or 0) for p in found.pairs)
    assert found.verdict.startswith("More than chance explains, all 3 pairs considered: B (frames.max=128) over A")


def test_other_frames_and_other_prompts_show_in_the_records(tmp_path: Path) -> None:
    a = Made(LVBench(), settings(256), "videoxl2", 0.2, 1)
    b = Made(LVBench(), settings(256, sparse=True), "videoxl2", 0.2, 2)
    asked, said = simulate(a, SHAPE), simulate(b, SHAPE)
    for i, (first, second) in enumerate(zip(asked.records, said.records, strict=True)):
        first.prompt_sha256, second.prompt_sha256 = "1" * 64, ("1" if i % 3 else "2") * 64
    for run in (asked, said):
        for prefill in run.prefills.values():
            prefill.file = {"bytes": 7 if run is said and prefill.video == "video_003" else 5}
    plan = said.prefills["p-video_000"].plan
    plan["indices"] = [i + 1 for i in plan["indices"]]
    notes = compare_runs([write_lines(tmp_path, a, asked), write_lines(tmp_path, b, said)]).notes
    assert "A and B: the prompt differs on 80 of 240 questions" in notes
    assert "A and B: the frames differ on 1 of 40 videos" in notes
    assert "A and B: the video file differs on 1 of 40 videos" in notes


# Mistakes: one message, exit code 1


def mistake(*runs: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([str(path) for path in runs]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("error: ") and len(captured.err.splitlines()) == 1
    return captured.err


def test_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = run(tmp_path, settings(128), 0.2, 1)
    other = write_run(tmp_path, Made(MLVU(), settings(128), "videoxl2", 0.2, 1), SMALL["mlvu"])
    mini = run(tmp_path, settings(128), 0.2, 1, source="mini")
    assert "name two or more run folders" in mistake(a, capsys=capsys)
    assert "named twice" in mistake(a, a, capsys=capsys)
    assert "is no run folder" in mistake(a, tmp_path, capsys=capsys)
    assert "is no run folder" in mistake(a, tmp_path / "nowhere", capsys=capsys)
    assert "different benchmarks: LVBench (test) and MLVU (dev)" in mistake(a, other, capsys=capsys)
    assert "LVBench (test) and its miniature" in mistake(a, mini, capsys=capsys)
    made = Made(LVBench(), settings(256), "videoxl2", 0.2, 2)
    lines = simulate(made, SHAPE)
    renamed = Lines([replace(r, question=f"x-{r.question}", unit=f"x-{r.unit}") for r in lines.records], lines.prefills)
    assert "no question in common" in mistake(a, write_lines(tmp_path, made, renamed), capsys=capsys)
    (other / "records.jsonl").write_text("")
    (other / "summary.json").unlink()
    assert "has no answers yet" in mistake(a, other, capsys=capsys)


def test_a_file_that_cannot_be_written_is_one_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = run(tmp_path, settings(128), 0.2, 1), run(tmp_path, settings(256), 0.2, 2)
    assert main([str(a), str(b), "--json", str(tmp_path / "no" / "such.json")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_settings_of_the_model_are_called_by_their_names(tmp_path: Path) -> None:
    frames = FrameSettings(max=256)
    models = [
        VideoXL2(frames=frames, sparse_prefill=SparsePrefill(enabled=True), bilevel_decode=BilevelDecode(compression=n))
        for n in (2, 8)
    ]
    found = compare_runs([run(tmp_path, model, 0.2, i) for i, model in enumerate(models)])
    assert [str(run) for run in found.runs] == [
        "A (bilevel_decode compression=2)",
        "B (bilevel_decode compression=8)",
    ]


@pytest.mark.parametrize("module", ["evalkit.compare", "evalkit.report"])
def test_help_comes_at_once_and_without_torch(module: str) -> None:
    code = f"import sys, runpy; sys.argv = ['x', '--help']\ntry: runpy.run_module('{module}', run_name='__main__')\n"
    code += (
        "except SystemExit as end: print(end.code, [m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert time.perf_counter() - started < 5  # about 0.2 s on an idle machine
