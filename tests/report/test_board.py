"""From run folders to rows, columns, names and ranks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from evalkit.errors import RunError
from evalkit.flat import flatten
from evalkit.report.board import build
from evalkit.report.entries import collect, read_entry
from evalkit.report.naming import labels, varying
from evalkit.report.ranks import ranks
from evalkit.tasks.lvbench import LVBench
from evalkit.tasks.mlvu import MLVU
from evalkit.trackers.csv import rebuild_tables

from .made import SMALL, Made, settings, write_run

OF_LVBENCH = SMALL["lvbench"]


def made(ability: float = 0.2, frames: int = 128, seed: int = 1, **more: object) -> Made:
    return Made(LVBench(), settings(frames), "videoxl2", ability, seed, **more)  # type: ignore[arg-type]


# Entries


def test_a_lost_summary_is_made_again_as_it_was(tmp_path: Path) -> None:
    run = write_run(tmp_path, made(source="mini"), OF_LVBENCH)
    before = json.loads((run / "summary.json").read_text())
    (run / "summary.json").unlink()
    entry = read_entry(run)
    assert entry is not None
    assert entry.summary == before == json.loads((run / "summary.json").read_text())


def test_a_summary_older_than_its_records_is_made_again(tmp_path: Path) -> None:
    run = write_run(tmp_path, made(), OF_LVBENCH)
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    answers = [json.loads(line) for line in lines]
    for answer in answers:
        answer["score"] = 1.0
    (run / "records.jsonl").write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    later = (run / "summary.json").stat().st_mtime + 5
    os.utime(run / "records.jsonl", (later, later))
    entry = read_entry(run)
    assert entry is not None and entry.scores.headline.value == 100.0


def test_a_torn_summary_is_made_again(tmp_path: Path) -> None:
    run = write_run(tmp_path, made(source="mini"), OF_LVBENCH)
    whole = (run / "summary.json").read_text()
    (run / "summary.json").write_text(whole[: len(whole) // 2])
    entry = read_entry(run)
    assert entry is not None and entry.summary == json.loads(whole)


def test_a_missing_question_lowers_the_coverage_of_a_summary_made_again(tmp_path: Path) -> None:
    run = write_run(tmp_path, made(), OF_LVBENCH)
    lines = (run / "records.jsonl").read_text().splitlines(keepends=True)
    (run / "records.jsonl").write_text("".join(lines[:-60]))
    (run / "summary.json").unlink()
    entry = read_entry(run)
    assert entry is not None and entry.below_coverage and not entry.whole
    assert entry.scores.coverage == pytest.approx(180 / 1549)  # a complete LVBench has 1,549 questions


def test_a_run_at_work_is_left_out_by_name_and_a_damaged_line_by_its_number(tmp_path: Path) -> None:
    write_run(tmp_path, made(), OF_LVBENCH)
    busy = write_run(tmp_path, made(frames=256), OF_LVBENCH)
    damaged = write_run(tmp_path, made(frames=512), OF_LVBENCH)
    (busy / "summary.json").unlink()
    lines = (damaged / "records.jsonl").read_text().splitlines(keepends=True)
    (damaged / "records.jsonl").write_text("".join([lines[0], "{oops\n", *lines[1:]]))
    (damaged / "summary.json").unlink()
    with FileLock(str(busy / ".lock")):
        found = collect(tmp_path)
    assert len(found.entries) == 2
    (reason,) = found.left_out
    assert f"{busy}: a process is working on it" in reason
    entry = next(e for e in found.entries if e.path == damaged)
    assert any(f"{damaged}/records.jsonl, line 2 is not a record" in remark for remark in entry.remarks)


def test_no_runs_is_an_error_that_says_where_and_what(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no finished run .*records\.jsonl"):
        collect(tmp_path)
    with pytest.raises(RunError, match="is not a folder"):
        collect(tmp_path / "nowhere")


def test_a_task_of_an_unlisted_plugin_is_shown_but_not_ranked(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, made(seed=n, frames=2**n), OF_LVBENCH) for n in (6, 7, 8)]
    config = (runs[0] / "config.yaml").read_text()
    (runs[0] / "config.yaml").write_text(config.replace("evalkit.tasks.lvbench.LVBench", "elsewhere.Task"))
    board = build(collect(tmp_path).entries)
    cell = next(c for c in board.cells if c.entry.path == runs[0])
    assert cell.rank is None and "elsewhere" in board.remarks[cell.remarks[0] - 1]
    assert sum(c.rank is not None for c in board.cells) == 2


def test_a_run_that_was_continued_by_force_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path, made(), OF_LVBENCH)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "history": [manifest]}))
    board = build(collect(tmp_path).entries)
    assert any("resume=force" in remark for remark in board.remarks) and board.cells[0].remarks


# Names


def test_a_switched_mechanism_is_named_once() -> None:
    flat = [flatten({"model": s}) for s in (
        {"frames": {"max": 128}, "sparse": {"enabled": False, "groups": None}, "dtype": "bfloat16"},
        {"frames": {"max": 128}, "sparse": {"enabled": True, "groups": 4}, "dtype": "bfloat16"},
        {"frames": {"max": 128}, "sparse": {"enabled": True, "groups": 8}, "dtype": "bfloat16"},
    )]  # fmt: skip
    assert labels(flat) == [("model.sparse off",), ("model.sparse groups=4",), ("model.sparse groups=8",)]
    assert labels(flat[:2]) == [("model.sparse off",), ("model.sparse on",)]
    assert labels(flat[1:]) == [("model.sparse groups=4",), ("model.sparse groups=8",)]
    assert labels(flat[:1] * 2) == [(), ()]


plain_values = st.one_of(st.none(), st.booleans(), st.integers(0, 3), st.sampled_from(["a", "b"]))


@given(st.lists(st.dictionaries(st.sampled_from(["a", "b.c", "b.d", "e.f.g"]), plain_values), min_size=1, max_size=5))
def test_runs_of_other_settings_have_other_labels(all_settings: list[dict[str, object]]) -> None:
    """As long as no mechanism is switched off, which makes its other settings meaningless, a label tells all."""
    found = labels(all_settings)
    for a, one in zip(all_settings, found, strict=True):
        for b, other in zip(all_settings, found, strict=True):
            same = all(a.get(key) == b.get(key) and type(a.get(key)) is type(b.get(key)) for key in {*a, *b})
            assert (one == other) == same


def test_varying_keeps_the_order_and_sees_what_is_missing() -> None:
    assert varying([{"x": 1, "y": 2}, {"y": 2, "z": 0}]) == ["x", "z"]


# Rows and columns


def test_what_is_not_comparable_gets_its_own_column(tmp_path: Path) -> None:
    of_mlvu = SMALL["mlvu"]
    write_run(tmp_path, Made(MLVU(), settings(128), "videoxl2", 0.5, 1), of_mlvu)
    write_run(tmp_path, Made(MLVU(protocol="video_xl_2"), settings(128), "videoxl2", 0.5, 1), of_mlvu)
    write_run(tmp_path, Made(MLVU(), settings(128), "videoxl2", 0.5, 1, source="mini"), of_mlvu)
    write_run(tmp_path, made(), OF_LVBENCH)
    board = build(collect(tmp_path).entries)
    assert [(c.benchmark, c.protocol, c.miniature, c.metric) for c in board.columns] == [
        ("LVBench", "official", False, "accuracy"),
        ("MLVU", "official", False, "M-Avg"),
        ("MLVU", "official", True, "M-Avg"),
        ("MLVU", "video_xl_2", False, "overall"),
    ]
    assert len(board.rows) == 1 and all(board.cell(board.rows[0], column) for column in board.columns)


def test_runs_that_differ_outside_the_model_do_not_share_a_cell(tmp_path: Path) -> None:
    run = write_run(tmp_path, made(seed=2), OF_LVBENCH)
    twin = run.with_name("0123456789ab")
    run.rename(twin)
    manifest = json.loads((twin / "manifest.json").read_text())
    manifest["identity"]["decoding"]["temperature"] = 0.7
    (twin / "manifest.json").write_text(json.dumps(manifest))
    write_run(tmp_path, made(), OF_LVBENCH)
    board = build(collect(tmp_path).entries)
    assert sorted(row.words for row in board.rows) == [("decoding.temperature=0",), ("decoding.temperature=0.7",)]


def test_what_was_asked_for_with_videos_missing_stands_in_the_same_column(tmp_path: Path) -> None:
    write_run(tmp_path, made(), OF_LVBENCH)
    write_run(tmp_path, Made(LVBench(allow_missing=True), settings(128), "videoxl2", 0.2, 1), OF_LVBENCH)
    board = build(collect(tmp_path).entries)
    assert len(board.columns) == 1
    assert sorted(row.words for row in board.rows) == [("allow_missing=false",), ("allow_missing=true",)]


def test_columns_never_share_an_id(tmp_path: Path) -> None:
    run = write_run(tmp_path, made(), OF_LVBENCH)
    other = write_run(tmp_path, made(frames=256), OF_LVBENCH)
    summary = json.loads((other / "summary.json").read_text())
    for row in (summary["scores"]["headline"], *summary["scores"]["rows"]):
        row["metric"] = "accuracy, as it was called before"
    (other / "summary.json").write_text(json.dumps(summary))
    board = build(collect(tmp_path).entries)
    assert len({column.id for column in board.columns}) == len(board.columns) == 2 and run != other


def test_letters_follow_the_numbers_in_the_settings(tmp_path: Path) -> None:
    for n in (1024, 128, 256):
        write_run(tmp_path, made(frames=n, seed=n), OF_LVBENCH)
    board = build(collect(tmp_path).entries)
    assert [(row.letter, row.words) for row in board.rows] == [
        ("A", ("frames.max=128",)), ("B", ("frames.max=256",)), ("C", ("frames.max=1024",)),
    ]  # fmt: skip


# Ranks


def test_ranks_claim_only_what_is_sure(tmp_path: Path) -> None:
    for ability, frames in ((1.6, 512), (0.0, 128), (0.03, 256), (-1.8, 64)):
        write_run(tmp_path, made(ability, frames, frames), SMALL["lvbench"])
    entries = collect(tmp_path).entries
    by_frames = {e.identity["model"]["frames"]["max"]: r for e, r in zip(entries, ranks(entries), strict=True)}
    assert {frames: str(rank) for frames, rank in by_frames.items()} == {512: "1", 256: "2–3", 128: "2–3", 64: "4"}
    assert by_frames[256] is not None and by_frames[256].tied


def test_equal_runs_are_all_tied(tmp_path: Path) -> None:
    for seed in range(5):
        write_run(tmp_path, made(0.2, 64 + seed, seed), OF_LVBENCH)
    assert {str(rank) for rank in ranks(collect(tmp_path).entries)} == {"1–5"}


def test_limited_failed_and_single_runs_have_no_rank(tmp_path: Path) -> None:
    write_run(tmp_path, made(), OF_LVBENCH)
    assert ranks(collect(tmp_path).entries) == [None]
    limited = write_run(tmp_path, made(2.0, 256, 2, limit=30), OF_LVBENCH)
    failed = write_run(tmp_path, made(2.0, 512, 3, fail=range(20)), OF_LVBENCH)
    write_run(tmp_path, made(-0.5, 64, 4), OF_LVBENCH)
    entries = collect(tmp_path).entries
    unranked = {entry.path for entry, rank in zip(entries, ranks(entries), strict=True) if rank is None}
    assert unranked == {limited, failed}


def test_tables_are_made_again_from_what_the_folders_hold(tmp_path: Path) -> None:
    run = write_run(tmp_path, made(source="mini"), OF_LVBENCH)
    before = (tmp_path / "scores.csv").read_text()
    (tmp_path / "scores.csv").unlink()
    (run / "summary.json").unlink()
    collect(tmp_path)
    rebuild_tables(tmp_path)
    assert (tmp_path / "scores.csv").read_text() == before
