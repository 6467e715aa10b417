"""Sample pages: marks, timelines, chunks and thumbnails against what the records and the videos hold."""

from __future__ import annotations

import gzip
import json
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from evalkit.model import FrameSpan
from evalkit.report.blocks import Block, script_json
from evalkit.report.command import main
from evalkit.report.questions import gist, mark, shown
from evalkit.report.thumbnails import HEIGHT, Thumbnails
from evalkit.report.timeline import WIDTH, picked, stretches, timeline
from evalkit.sources import Mini
from evalkit.tasks.lvbench import LVBench
from evalkit.types import Prefill, Record, Video
from evalkit.video.scenes import PALETTE, Scene, film, nearest_colour
from evalkit.video.write import write_video

from .conftest import Pages, page_of, unpacked
from .made import SMALL, Lines, Made, settings, simulate, write_lines, write_run


@pytest.fixture
def lines() -> Lines:
    return simulate(Made(LVBench(), settings(512, compression=4), "videoxl2", 0.2, 1), SMALL["lvbench"])


@pytest.fixture
def record(lines: Lines) -> Record:
    return lines.records[0]


def test_marks(record: Record) -> None:
    assert mark(replace(record, score=1.0)) == "right"
    assert mark(replace(record, score=0.0)) == "wrong"
    assert mark(replace(record, score=0.4)) == "partly"
    assert mark(replace(record, score=0.0, valid=False)) == "unread"
    assert mark(replace(record, score=None)) == "dropped"
    assert mark(replace(record, status="failed", score=None)) == "failed"
    assert mark(replace(record, status="ungraded", score=None)) == "waiting"


def test_the_question_is_found_in_its_prompt(record: Record) -> None:
    prompts = {
        "<|im_start|>user\n<image>\nQuestion: Who won?\nOptions:\n(A) Ann\n(B) Bob<|im_end|>": "Who won?",
        "Is it A?\nWhat colour is the hat?\nA. red": "What colour is the hat?",
        "Find when the man sits down.\nGive seconds": "Find when the man sits down.",
    }
    for prompt, wanted in prompts.items():
        assert gist(replace(record, prompt=prompt)) == wanted
    assert gist(replace(record, prompt=None)) == record.question
    assert len(gist(replace(record, prompt="why " * 99 + "?"))) <= 110


def test_values_are_shown_as_people_write_them() -> None:
    assert shown([12.04, 15.5]) == "12.0 to 15.5 s" and shown(None) == "–" and shown("B") == "B"


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_json_in_a_page_reads_back_and_ends_no_element(value: object) -> None:
    text = script_json(value)
    assert json.loads(text) == value
    assert not set(text) & {"<", ">", "&", "\u2028", "\u2029"}


@given(st.integers(1, 600), st.integers(1, 40))
def test_thumbnails_are_picked_evenly(count: int, number: int) -> None:
    positions = picked({"indices": list(range(count))}, number)
    assert len(positions) == min(count, number) and positions == sorted(set(positions))
    assert positions[0] >= 0 and positions[-1] < count
    gaps = np.diff(positions)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1


def test_spans_lie_where_their_frames_are(lines: Lines) -> None:
    """Against the slow way: each frame's own place, chunk by chunk of 16 frames."""
    prefill, dense = lines.prefills["p-video_000"], {0, 2, 3, 30}
    spans = [FrameSpan(16 * i, 16 * i + 15, "dense" if i in dense else "pooled", f"chunk {i}") for i in range(32)]
    found = stretches(prefill, spans)
    assert [s.kind for s in found] == ["dense", "pooled", "dense", "pooled", "dense", "pooled"]
    assert found[2].title.startswith("chunk 2 to chunk 3, ") and found[2].title.endswith(": dense")
    length = prefill.plan["frame_count"] / prefill.plan["native_fps"]
    assert sum(s.width for s in found) == pytest.approx(WIDTH, abs=1)
    for position, time_s in enumerate(prefill.plan["times_s"]):
        x = (time_s + 0.01) / length * WIDTH
        (under,) = [s for s in found if s.x <= x + 0.05 and x - 0.05 < s.x + s.width][-1:]
        assert (under.kind == "dense") == (position // 16 in dense), f"frame {position}"


def test_what_is_not_known_is_not_drawn(lines: Lines) -> None:
    prefill = lines.prefills["p-video_000"]
    assert stretches(prefill, ()) == [] == stretches(None, [FrameSpan(0, 1, "dense", "chunk 0")])
    assert timeline(replace(prefill, plan={})) is None and timeline(None) is None


def test_thumbnails_show_the_frames_the_model_saw(tmp_path: Path) -> None:
    colours = ("red", "green", "blue", "yellow", "white", "purple")
    path = tmp_path / "a video.mp4"
    scenes = [Scene(i, i + 1, colour) for i, colour in enumerate(colours)]
    write_video(path, film(scenes, 10, (96, 128)), 10)
    sampling = {"indices": [5, 15, 25, 35, 45, 55], "times_s": [0.5, 1.5, 2.5, 3.5, 4.5, 5.5]}
    strips = Thumbnails(tmp_path / "strips", 6)
    file = strips.of(Video("v", path), sampling)
    assert file is not None
    pixels = np.asarray(Image.open(file))
    assert pixels.shape == (HEIGHT, 6 * 96, 3)
    assert [nearest_colour(pixels[:, 96 * i + 8 : 96 * i + 88]) for i in range(6)] == list(colours)
    before = file.stat().st_mtime_ns
    assert Thumbnails(tmp_path / "strips", 6).of(Video("v", path), sampling) == file
    assert file.stat().st_mtime_ns == before, "a strip that is there is made again"
    assert set(colours) <= set(PALETTE)


def test_a_damaged_video_costs_its_thumbnails_only(tmp_path: Path) -> None:
    path = tmp_path / "broken.mp4"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(4000))
    strips = Thumbnails(tmp_path / "strips", 4)
    assert strips.of(Video("v", path), {"indices": [0, 1, 2, 3]}) is None
    assert "broken.mp4" in strips.failures["v"]
    assert strips.of(Video("w", tmp_path / "gone.mp4"), {"indices": [0]}) is None and "w" not in strips.failures


def test_a_run_finds_its_videos_again(tmp_path: Path) -> None:
    """A run on the miniature of LVBench: real videos, of which one has gone meanwhile."""
    task = LVBench()
    data = Mini(str(tmp_path / "data")).open(task)
    items = task.read(data)
    made = Made(task, settings(16), "videoxl2", 0.2, 1, source="mini")
    pattern = simulate(made, SMALL["lvbench"]).records
    plan = {"rule": "uniform", "indices": [0, 4, 8, 12], "times_s": [0.0, 0.4, 0.8, 1.2], "native_fps": 10.0,
            "frame_count": 20}  # fmt: skip
    asked = [(item.video.id, q.id) for item in items for q in item.questions]
    records = [
        replace(pattern[i], video=video, cluster=video, question=id, unit=id, prefill=f"p-{video}")
        for i, (video, id) in enumerate(asked)
    ]
    prefills = {f"p-{item.video.id}": Prefill(f"p-{item.video.id}", item.video.id, plan) for item in items}
    run = write_lines(tmp_path / "results", made, Lines(records, prefills), data.root)
    gone = items[0].video
    gone.path.unlink()
    assert main([str(tmp_path / "results"), "--thumbnails", "4"]) == 0
    page = page_of(tmp_path / "results", run)
    assert sum(bool(video["strip"]) for video in unpacked(page)[1]) == len(items) - 1, "all but the one that has gone"
    assert main([str(tmp_path / "results"), "--thumbnails", "4", "--thumbnail-videos", "1"]) == 0
    assert sum(bool(video["strip"]) for video in unpacked(page)[1]) == 1
    assert main([str(tmp_path / "results"), "--thumbnails", "0"]) == 0
    assert not any(video["strip"] for video in unpacked(page)[1])


def test_the_page_says_what_was_asked_read_and_spent(pages: Pages) -> None:
    run = pages.runs[6]
    answers = [json.loads(line) for line in (run / "records.jsonl").read_text(encoding="utf-8").splitlines()]
    listed, videos = unpacked(pages.run(run))
    found = {q["id"]: q for video in videos for q in video["questions"]}
    assert [q[0] for _, questions in listed for q in questions] == [a["question"] for a in answers] == list(found)
    for answer in answers:
        q = found[answer["question"]]
        assert (q["prompt"], q["reply"]) == (answer["prompt"], answer["reply"])
        assert q["facts"][:2] == [["read as", answer["reply"], f"by {answer['rule']}"], ["gold", answer["gold"], ""]]
        assert f"{len(answer['details']['dense_chunks'])} of 32 chunks dense" in " ".join(q["lines"])
        assert {kind for _, _, kind, _ in q["spans"]} == {"dense", "pooled"}
        assert {name for name, _, _ in q["facts"]} >= {"score", "time", "first token", "tokens", "prefill", "KV cache"}


def test_a_failed_question_says_why(tmp_path: Path) -> None:
    run = write_run(tmp_path, Made(LVBench(), settings(64), "videoxl2", 0.2, 1, fail=range(6)), SMALL["lvbench"])
    assert main([str(tmp_path)]) == 0
    listed, videos = unpacked(page_of(tmp_path, run))
    assert {q["error"][1] for q in videos[0]["questions"]} == {"the video ends after 12.4 s of 1800 s; fetch it again"}
    assert videos[0]["said"] == "No frames of this video were read." and "said" in videos[1]
    assert sum(q[1] == "f" for _, questions in listed for q in questions) == 6


def test_a_question_that_was_asked_again_is_shown_once_with_its_last_answer(tmp_path: Path) -> None:
    """Lines of one video apart from each other, as a resumed run leaves them."""
    run = write_run(tmp_path, Made(LVBench(), settings(64), "videoxl2", 0.2, 1), SMALL["lvbench"])
    records = run / "records.jsonl"
    again = {**json.loads(records.read_text(encoding="utf-8").splitlines()[2]), "reply": "asked again"}
    with records.open("a", encoding="utf-8") as file:
        file.write(json.dumps(again) + "\n")
    assert main([str(tmp_path)]) == 0
    _, videos = unpacked(page_of(tmp_path, run))
    assert [q["reply"] for q in videos[0]["questions"]].index("asked again") == 2
    assert sum(len(video["questions"]) for video in videos) == 240


def test_a_report_has_one_file_for_each_run_beside_the_leaderboard(pages: Pages) -> None:
    files = [path for path in (pages.results / "samples").rglob("*") if path.is_file()]
    assert sorted(files) == sorted(map(pages.run, pages.runs))


@given(st.lists(st.recursive(st.text(), lambda inner: st.lists(inner), max_leaves=5), max_size=4))
def test_blocks_read_back(values: list[object]) -> None:
    block = Block()
    for value in values:
        block.add(value)
    packed = block.base64()
    assert json.loads(gzip.decompress(b64decode(packed))) == values and not set(packed) & set("<>&")
