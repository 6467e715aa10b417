"""The forecast of a dry run equals what the run then records: frames, tokens, KV bytes, operations."""

from __future__ import annotations

import io
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from evalkit import CONFIGS, job
from evalkit.cli.compose import compose
from evalkit.dry_run import text as dry_run_text
from evalkit.dry_run.forecast import UNKNOWN_FPS, Lengths, VideoForecast, forecast, forecast_video
from evalkit.errors import DataError
from evalkit.model import QuestionEstimate
from evalkit.models.videoxl2 import mini
from evalkit.runs import StoredRun, read_run
from evalkit.types import VideoQuestions
from tests.helpers import CONF, ROOT, only_run, run_command, run_here, toy_arguments
from tests.toy import write_toy

MINI = ["task=mlvu", "model=videoxl2_mini", "source=mini", "tracker=csv"]
SMALL = ["model.frames.max=24", "limit=7", "decoding.max_new_tokens=2"]
"""With at most two new tokens, since each reply of the miniature is a letter and an end token."""

SETTINGS: dict[str, list[str]] = {
    "full": [],
    "chunked": ["model.sparse_prefill.chunk_groups=1", "model.sparse_prefill.previous_chunks=1"],
    "bilevel by attention": [
        "model.sparse_prefill.chunk_groups=2",
        *(f"model.bilevel_decode.{key}" for key in ("compression=4", "chunk_groups=1", "budget.chunks=2")),
    ],
    "bilevel within a fraction": [
        *(f"model.bilevel_decode.{key}" for key in ("compression=16", "chunk_groups=1", "budget.fraction=0.7")),
        "model.bilevel_decode.relevance.method=random",
    ],
    "half precision": ["model.dtype=bfloat16", "model.kv_store.device=cpu"],
    "incomplete groups, other times": ["model.frames.max=22", "model.time_rewrite=off", "task.protocol=lmms_eval"],
}


def planned(arguments: list[str]) -> job.Plan:
    model = next(a.partition("=")[2] for a in arguments if a.startswith("model="))
    return job.plan(compose([*arguments, "dry_run=true"], [CONFIGS, CONF]), model)


def everything(plan: job.Plan) -> list[VideoQuestions]:
    return plan.task.read(plan.source.open(plan.task))


def video_by_video(plan: job.Plan) -> list[VideoForecast]:
    items = job.limited(everything(plan), plan.config.limit)
    lengths, estimator = Lengths([item.video for item in items], seconds=30), plan.model.estimator()
    return [forecast_video(plan, estimator, lengths, item) for item in items]


def show(arguments: list[str]) -> None:
    dry_run_text.show(forecast(planned(arguments)).plain())


def ran(arguments: list[str], results: Path) -> StoredRun:
    assert run_here([*arguments, f"results={results}"]) == job.OK
    return read_run(only_run(results))


def same(said: VideoForecast, run: StoredRun) -> None:
    assert said.estimate is not None and said.exact and said.known
    records = {record.question: record for record in run.records}
    for question, q in zip(said.item.questions, said.estimate.questions, strict=True):
        record = records[question.id]
        assert isinstance(q, QuestionEstimate)
        prefill = run.prefills[record.prefill or ""]
        assert said.frames == prefill.frames
        assert said.estimate.visual_tokens == prefill.tokens["visual"]
        assert said.estimate.context_tokens == prefill.tokens["context"]
        assert q.prompt_tokens == record.tokens["prompt"]
        assert (said.estimate.kv_bytes, q.kv_bytes_used) == (prefill.kv_bytes, record.kv_bytes_used)
        assert said.estimate.attention_density == prefill.attention_density
        assert said.estimate.vision_flops is not None and said.estimate.prefill_flops is not None
        assert (said.estimate.vision_flops + said.estimate.prefill_flops, q.flops) == (prefill.flops, record.flops)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_forecast_equals_the_records(name: str, tmp_path: Path) -> None:
    arguments = [*MINI, *SMALL, *SETTINGS[name]]
    before = video_by_video(planned(arguments))
    run = ran(arguments, tmp_path)
    assert sum(len(said.item.questions) for said in before) == len(run.records) == 7
    for said in before:
        same(said, run)
    if name.startswith("bilevel"):
        dense = {prefill.id: prefill.kv_bytes or 0 for prefill in run.prefills.values()}
        assert all((record.kv_bytes_used or 0) < dense[record.prefill or ""] for record in run.records)
    if name == "chunked":
        assert all((prefill.attention_density or 1) < 1 for prefill in run.prefills.values())


OTHERS = {
    "longvideobench": ["task.subtitles=interleaved"],  # subtitles between the frames
    "mvbench": ["limit=80", "model.frames.max=8"],  # parts of videos, folders of pictures
    "niah": ["model.frames.multiple_of=4"],  # videos put together for each question
}


@pytest.mark.parametrize("task", OTHERS)
def test_the_forecast_equals_the_records_for_other_kinds_of_videos(task: str, tmp_path: Path) -> None:
    named = [f"task={task}", *MINI[1:], *SMALL, "limit=12", *OTHERS[task]]
    before = video_by_video(planned(named))
    run = ran(named, tmp_path)
    assert len(before) > 1
    for said in before:
        same(said, run)
    videos = [said.item.video for said in before]
    if task == "mvbench":
        assert any(video.path.is_dir() for video in videos) and any(video.start_s for video in videos)
    if task == "niah":
        assert all(video.composite for video in videos)


def test_a_selection_file_is_read_for_each_question(tmp_path: Path) -> None:
    plan = planned([*MINI, *SMALL])
    questions = [(item, q) for item in job.limited(everything(plan), 7) for q in item.questions]
    rows = [
        {"key": f"{item.video.path.name}_{q.text}", "config": [1, 1, 8, False], "units": list(range(i % 4))}
        for i, (item, q) in enumerate(questions[:-1])
    ]
    file = tmp_path / "selected.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    relevance = "model.bilevel_decode.relevance"
    arguments = [*MINI, *SMALL, "min_coverage=0", f"{relevance}.method=file", f"{relevance}.file={file}"]
    before = video_by_video(planned(arguments))
    run = ran(arguments, tmp_path / "results")
    records = {record.question: record for record in run.records}
    used = set()
    for said in before:
        assert said.estimate is not None
        for question, q in zip(said.item.questions, said.estimate.questions, strict=True):
            record = records[question.id]
            if isinstance(q, QuestionEstimate):
                dense = run.prefills[record.prefill or ""].kv_bytes
                assert (said.estimate.kv_bytes, q.kv_bytes_used) == (dense, record.kv_bytes_used)
                used.add(record.kv_bytes_used)
            else:
                assert record.error == {"kind": q.kind, "message": str(q)} and q.kind == "no_selection"
    assert len(used) > 1
    estimated = forecast(planned([*arguments, f"results={tmp_path / 'other'}"]))
    assert estimated.failing == 1 and "selected.jsonl" in str(estimated.failure)


def test_totals_are_sums_over_the_videos(tmp_path: Path) -> None:
    plan = planned([*MINI, "model.frames.max=24", f"results={tmp_path}"])
    items, estimated = video_by_video(plan), forecast(plan)
    estimates = [said.estimate for said in items if said.estimate]
    assert estimated.videos == len(items) == estimated.exact == estimated.known
    assert estimated.questions == sum(len(said.item.questions) for said in items)
    assert estimated.frames == sum(said.frames for said in items)
    assert estimated.kv_bytes == pytest.approx(sum(e.kv_bytes for e in estimates) / len(estimates))
    assert estimated.flops["vision"] == sum(e.vision_flops or 0 for e in estimates)
    assert estimated.hours["compute"] == pytest.approx(sum(estimated.flops.values()) / 300e12 / 3600)
    assert estimated.hours["total"] == max(estimated.hours["compute"], estimated.hours["video_decoding"])
    assert estimated.new_tokens == plan.decoding.max_new_tokens
    faster = forecast(planned([*MINI, "throughput.tflops=600", "throughput.video_speed=1", f"results={tmp_path}"]))
    assert faster.hours["video_decoding"] == faster.video_hours


def test_no_file_is_written_and_no_lock_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, results = write_toy(tmp_path / "data"), tmp_path / "results"
    show(toy_arguments(data, results))
    assert not results.exists()
    assert run_here(toy_arguments(data, results, "limit=5")) == job.OK
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    records = only_run(results) / "records.jsonl"
    with FileLock(str(only_run(results) / ".lock")):
        capsys.readouterr()
        show(toy_arguments(data, results))
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before
    assert "5 questions; the rest is counted" in capsys.readouterr().out

    with records.open("ab") as file:
        file.write(b'{"cut')  # another process is writing this line
    estimated = forecast(planned(toy_arguments(data, results)))
    assert (estimated.answered, estimated.questions, estimated.videos) == (5, 7, 3)
    assert records.read_bytes().endswith(b'{"cut')


def test_a_model_that_says_nothing_of_its_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_toy(tmp_path / "data")
    estimated = forecast(planned(toy_arguments(data, tmp_path / "results")))
    assert (estimated.videos, estimated.questions, estimated.frames, estimated.known, estimated.exact) == (
        4,
        12,
        16,
        4,
        0,
    )
    assert estimated.video_hours == pytest.approx((2 + 3 + 4 + 5) / 3600)
    assert estimated.kv_bytes is None and estimated.peak_device_bytes is None
    dry_run_text.show(estimated.plain())
    out = capsys.readouterr().out
    assert "does not say what it costs" in out and "KV" not in out


def test_videos_that_are_not_there_count_as_long_as_annotated(tmp_path: Path) -> None:
    plan = planned([*MINI, f"results={tmp_path}"])
    copy = tmp_path / "copy"
    shutil.copytree(plan.source.open(plan.task).root, copy)
    whole = forecast(plan)
    videos = sorted((copy / "video").rglob("*.mp4"))
    for video in videos[:3]:
        video.unlink()
    videos[3].write_bytes(b"<html>Sign in</html>" * 50)
    local = ["task=mlvu", "model=videoxl2_mini", "source=local", f"source.root={copy}", f"results={tmp_path}"]
    with pytest.raises(DataError):
        forecast(planned(local))
    estimated = forecast(planned([*local, "task.allow_missing=true"]))
    assert (estimated.videos, estimated.missing, estimated.known) == (whole.videos, 3, whole.videos - 4)
    name = f"{videos[3].parent.name}/{videos[3].name}"
    broken = [item for item in everything(plan) if item.video.path.as_posix().endswith(name)]
    assert estimated.failing == sum(len(item.questions) for item in broken) > 0 and "is a web page" in str(
        estimated.failure
    )
    assert estimated.exact == estimated.known
    # Missing videos have an assumed rate and their annotated length: the same number of frames, unless very short.
    assert estimated.frames == pytest.approx(whole.frames * 9 / 10, rel=0.1)


def test_without_a_checkpoint_the_sizes_of_the_released_model_are_used(tmp_path: Path) -> None:
    estimated = forecast(planned(["task=mlvu", "model=videoxl2", "source=mini", f"results={tmp_path}"]))
    assert estimated.exact == 0 and estimated.known == estimated.videos
    assert any("not on this machine" in remark for remark in estimated.remarks)
    assert estimated.kv_bytes is not None and estimated.context_tokens is not None
    assert estimated.kv_bytes / estimated.context_tokens == pytest.approx(2 * 28 * 4 * 128 * 2)
    assert estimated.peak_device_bytes is not None and 15e9 < estimated.peak_device_bytes < 20e9


LIGHT = """
import sys
sys.argv[1:] = sys.argv[2:]
from evalkit.cli.command import main
code = main()
heavy = [m for m in ("torch", "transformers", "datasets", "pandas", "wandb", "matplotlib") if m in sys.modules]
sys.exit(f"imported {heavy}" if heavy else code)
"""


@pytest.mark.parametrize("model", ["videoxl2", "videoxl2_mini"])
def test_it_takes_less_than_three_seconds_and_no_torch(model: str, tmp_path: Path) -> None:
    mini.folder()  # made on first use, and so is the data
    plan = planned(MINI)
    plan.source.open(plan.task)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = ["task=mlvu", f"model={model}", "source=mini", "dry_run=true", f"results={tmp_path / 'r'}"]
    done = subprocess.run([sys.executable, "-c", LIGHT, "-", *arguments], capture_output=True, text=True, cwd=ROOT)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert "KV cache" in done.stdout and "exact for" in done.stdout
    assert not (tmp_path / "r").exists()
    # Of processor time: the machine may be busy with other things.
    assert now.ru_utime + now.ru_stime - spent.ru_utime - spent.ru_stime < 3.0


def test_a_sweep_ends_with_one_table_of_all_cells(tmp_path: Path) -> None:
    results = tmp_path / "r"
    swept = ["model.bilevel_decode.compression=2,8", "model.bilevel_decode.chunk_groups=1", "model.frames.max=64,256"]
    done = run_command("-m", *MINI, *swept, "dry_run=true", f"results={results}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("dry run: MLVU") == 4
    header, *rows, total = done.stdout.splitlines()[-6:]
    assert header.split("  ")[0] == "cell" and "KV used" in header
    assert rows[0].startswith("bilevel_decode.compression=2 frames.max=64 ")
    assert rows[3].startswith("bilevel_decode.compression=8 frames.max=256 ")
    assert total.startswith("4 of 4 cells: 80 questions, ")
    cells: list[dict[str, Any]] = [json.loads(path.read_text()) for path in results.glob("sweeps/*/cell-*.json")]
    used = {tuple(cell["overrides"]): cell["forecast"]["kv_used_share"] for cell in cells}
    assert len(used) == len(set(used.values())) == 4
    assert {path.name for path in results.iterdir()} == {"sweeps"}


def test_a_sweep_shows_the_cells_that_could_be_estimated(tmp_path: Path) -> None:
    data = write_toy(tmp_path / "data")
    done = run_command("-m", *toy_arguments(Path(f"{data},{tmp_path}/nowhere"), tmp_path / "r", "dry_run=true"))
    assert done.returncode == job.MISTAKE
    assert "1 of 2 cells: 12 questions" in done.stdout
    assert "is not a folder" in done.stderr and f"source.root={tmp_path}/nowhere" in done.stderr


@pytest.mark.parametrize("wrong", ["throughput.tflops=0", "throughput.tflop=3", "model.frames.max=-1"])
def test_a_mistake_is_a_mistake_in_a_dry_run_too(wrong: str, tmp_path: Path) -> None:
    done = run_command(*MINI, wrong, "dry_run=true", f"results={tmp_path}")
    assert done.returncode == job.MISTAKE and done.stderr.startswith("error: ")


def test_a_terminal_gets_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    estimated = forecast(planned([*MINI, f"results={tmp_path}"])).plain()
    out = io.StringIO()
    monkeypatch.setattr(dry_run_text, "_console", lambda: Console(file=out, force_terminal=True, width=200))
    dry_run_text.show(estimated)
    dry_run_text.show_sweep(
        [{"overrides": ["a=1"], "forecast": estimated}, {"overrides": ["a=2"], "forecast": estimated}]
    )
    shown = out.getvalue()
    for name, value in dry_run_text.lines(estimated):
        assert name in shown and value[:60] in shown
    assert "a=1" in shown and "a=2" in shown


def test_unknown_lengths_take_those_of_the_others() -> None:
    from evalkit.types import Video

    nowhere = Path("/nowhere")
    videos = [Video("a", nowhere / "a.mp4", duration_s=100.0), Video("b", nowhere / "b.mp4", duration_s=50.0)]
    lengths = Lengths([*videos, Video("c", nowhere / "c.mp4")])
    assert lengths.of(Video("c", nowhere / "c.mp4")).info.duration_s == 75.0
    assert lengths.of(videos[0]).info.frame_count == 100 * UNKNOWN_FPS
    assert not lengths.of(videos[0]).exact
    assert lengths.of(Video("c", nowhere / "c.mp4", end_s=90.0)).info.duration_s == 90.0
    assert Lengths([Video("d", nowhere / "d.mp4")]).of(Video("d", nowhere / "d.mp4")).info.duration_s == 600.0


def test_requests_to_a_judge_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generation = [*MINI, "task.split=dev_generation", f"results={tmp_path}"]
    assert forecast(planned(MINI)).judge is None
    estimated = forecast(planned(generation))
    assert estimated.judge == {"requests": 2, "model": "", "max_calls": 0}
    dry_run_text.show(estimated.plain())
    assert "none is set: the answers stay ungraded until they are rescored" in capsys.readouterr().out
    judge = ["task.judge.base_url=http://localhost:1/v1", "task.judge.model=j", "task.judge.max_calls=1"]
    dry_run_text.show(forecast(planned([*generation, *judge, "+task.judge.extra.top_k=20"])).plain())
    assert "at most 2 requests to j; task.judge.max_calls=1 stops before that" in capsys.readouterr().out
