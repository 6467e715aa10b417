"""Charades-STA: four forms of the same annotations, prompts byte by byte, six readings, recall at the threshold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from evalkit.errors import ConfigError, DataError
from evalkit.tasks._mini.charades_sta import LINES
from evalkit.tasks.charades_sta import CharadesSTA
from evalkit.types import Question
from evalkit.video.scenes import nearest_colour

from .answers import answer, at, complete, made, pixels_at, prompts, questions


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("charades_sta")
    CharadesSTA().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(CharadesSTA(**settings), root)


def span(q: Question) -> tuple[float, float]:
    assert isinstance(q.gold, tuple)
    return q.gold


def asked(task: CharadesSTA) -> dict[str, Question]:
    return {id: q for id, (_, q) in questions(task).items()}


# Data ----------------------------------------------------------------------------------------------------------------


def hub(folder: Path) -> None:
    """The hub's table: file names, and half precision."""
    table = pa.table(
        {
            "video": [f"{video}.mp4" for video, *_ in LINES],
            "caption": [caption for *_, caption in LINES],
            "timestamp": pa.array(
                [[start, end] for _, start, end, _ in LINES], pa.list_(pa.float64())
            ).cast(pa.list_(pa.float16())),
        }
    )  # fmt: skip
    (folder / "data").mkdir()
    pq.write_table(table, folder / "data" / "test-00000-of-00001.parquet")


def coco(folder: Path) -> None:
    rows = [
        {"image_id": f"{video}.mp4", "caption": caption, "timestamp": [start, end], "id": i}
        for i, (video, start, end, caption) in enumerate(LINES)
    ]
    (folder / "test.caption_coco_format.json").write_text(json.dumps({"annotations": rows}))


def time_r1(folder: Path) -> None:
    entries: dict[str, dict[str, Any]] = {}
    for video, start, end, caption in LINES:
        entry = entries.setdefault(video, {"duration": 30.0, "timestamps": [], "sentences": []})
        entry["timestamps"].append([start, end])
        entry["sentences"].append(caption)
    (folder / "charades_test.json").write_text(json.dumps(entries))


@pytest.mark.parametrize(("write", "places"), [(hub, 0.0125), (coco, 0), (time_r1, 0)])
def test_all_forms_give_the_same_questions(root: Path, tmp_path: Path, write: Any, places: float) -> None:
    write(tmp_path)
    (tmp_path / "Charades_v1_480").symlink_to(root / "videos")
    official, other = asked(mini(root)), questions(at(CharadesSTA(), tmp_path))
    assert set(official) == set(other) and len(other) == len(LINES)
    for id, (item, q) in other.items():
        assert q.text == official[id].text and item.video.path.is_file()
        assert span(q) == pytest.approx(span(official[id]), abs=places)
    assert span(other["CCCC4_0"][1])[1] == (12.1015625 if places else 12.1)  # as the hub's copy has it


def test_what_a_question_carries(root: Path) -> None:
    item, q = questions(mini(root))["AAAA2_1"]
    assert (q.text, q.gold, dict(q.meta)) == (
        "the word key is shown until the end.",
        (20.0, 25.2),
        {"duration_s": 24.0},
    )
    assert dict(q.groups) == {"gold_length": ("5 to 10 s",), "gold_position": ("last third",)}
    assert (item.video.id, item.cluster, item.video.duration_s) == ("AAAA2", "AAAA2", 24.0)
    assert item.video.path == root / "videos" / "AAAA2.mp4"


def test_time_r1_states_the_durations(tmp_path: Path) -> None:
    time_r1(tmp_path)
    assert {q.meta["duration_s"] for q in asked(at(CharadesSTA(), tmp_path)).values()} == {30.0}


def test_ids_do_not_depend_on_captions(root: Path) -> None:
    found = asked(mini(root))
    assert [id for id in found if id.startswith("BBBB3")] == [f"BBBB3_{k}" for k in range(5)]
    assert found["BBBB3_3"].text == "the numbers go up: 1>>>2>>>3."


def test_a_short_copy_is_an_error(root: Path) -> None:
    task = complete(CharadesSTA(), root)
    with pytest.raises(DataError, match=r"\(test\): 10 questions .* a complete copy has 3720"):
        list(task.items())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "AAAA1 0.0 6.9#a sentence",
            "row 2: expected <video> <start> <end>##<sentence>",
        ),
        ("AAAA1 0.0##a sentence", "row 2: expected <video>"),
        ("AAAA1 0.0 x##a sentence", r"row 2, column \"timestamp\": expected numbers, found \['0.0', 'x'\]"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "charades_sta_test.txt").write_text(f"AAAA1 0.0 6.9##fine\n{line}\n")
    assert len(list(CharadesSTA(allow_missing=True).load(tmp_path))) == 1  # the other row goes on
    with pytest.raises(DataError, match=message):
        list(CharadesSTA().load(tmp_path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("test.caption_coco_format.json", "{", "cannot be read"),
        ("test.caption_coco_format.json", "[]", r"expected an object, found \[\]"),
        ("test.caption_coco_format.json", "{}", 'no column "annotations"'),
        ("test.caption_coco_format.json", '{"annotations": [{"caption": "x"}]}', 'no column "image_id"'),
        ("test.caption_coco_format.json", '{"annotations": ["x"]}', "row 1: expected an object, found 'x'"),
        ("charades_test.json", '{"A": {"sentences": ["x"]}}', "'A': expected lists of one length, timestamps"),
        ("charades_test.json", '{"A": {"sentences": ["x"], "timestamps": []}}', "'A': expected lists of one length"),
        ("charades_test.json", '{"A": {"sentences": ["x"], "timestamps": [[1]]}}', r"expected \[start, end\]"),
        ("charades_test.json", '{"A": {"sentences": ["x"], "timestamps": [["a", 2]]}}', "expected numbers"),
    ],
)  # fmt: skip
def test_malformed_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=rf"{name}.*{message}"):
        list(at(CharadesSTA(), tmp_path).items())


def test_a_sentence_may_contain_what_separates_it(tmp_path: Path) -> None:
    (tmp_path / "charades_sta_train.txt").write_text("AAAA1 0.0 6.9##press ## twice\n\nAAAA1 7 8##\x0bx\n")
    texts = [q.text for q in asked(at(CharadesSTA(split="train"), tmp_path)).values()]
    assert texts == ["press ## twice", "\x0bx"]


@pytest.mark.parametrize("split", ["test_ood", "novel_word"])
def test_other_splits_have_their_own_files(tmp_path: Path, split: str) -> None:
    with pytest.raises(DataError, match=f"charades_{split}.json|{split}.json"):
        list(at(CharadesSTA(split=split), tmp_path).items())


def test_there_is_no_official_way_to_ask() -> None:
    with pytest.raises(ConfigError, match=r"no such protocol.*Choose one of: lmms_eval, lmms_eval_offline, tolerant"):
        CharadesSTA(protocol="official")


# Prompts -------------------------------------------------------------------------------------------------------------

FIND = (
    "Please find the visual event described by a sentence in the video, determining its starting and ending times. The "
    "format should be: 'The event happens in the start time - end time'. For example, The event 'person turn a light "
    "on' happens in the 24.3 - 30.4 seonds. Now I will give you the textual sentence: "
)
RETURN = ". Please return its start time and end time."


def test_prompts_byte_by_byte(root: Path) -> None:
    def prompt(protocol: str, id: str = "AAAA2_0") -> str:
        return prompts(mini(root, protocol=protocol))[id]

    for protocol in ("lmms_eval", "lmms_eval_offline", "tolerant", "videochat_flash"):
        assert prompt(protocol) == f"{FIND}the picture is green.{RETURN}"
    timesuite = "You are given a video from the charades dataset. " + FIND
    assert prompt("timesuite") == f"{timesuite}the picture is green{RETURN}"
    assert prompt("timesuite", "BBBB3_4") == f"{timesuite}the picture is purple{RETURN}"
    assert prompt("time_r1") == (
        'To accurately pinpoint the event "the picture is green." in the video, determine the precise time period of '
        "the event.\n\nOutput your thought process within the <think> </think> tags, including analysis with either "
        "specific timestamps (xx.xx) or time ranges (xx.xx to xx.xx) in <timestep> </timestep> tags.\n\nThen, provide "
        'the start and end times (in seconds, precise to two decimal places) in the format "start time to end time" '
        'within the <answer> </answer> tags. For example: "12.54 to 17.83".'
    )


def test_braces_in_a_sentence_stay(tmp_path: Path) -> None:
    (tmp_path / "charades_sta_test.txt").write_text("AAAA1 0.0 6.9##person opens {} and {0}.\n")
    for protocol in CharadesSTA.protocols:
        assert "person opens {} and {0}" in prompts(at(CharadesSTA(protocol=protocol), tmp_path))["AAAA1_0"]


# Replies -------------------------------------------------------------------------------------------------------------

OWN_FORM = {"time_r1": "<think>maybe 1.00 to 2.00</think><answer>{} to {}</answer>"}
EARLY = {"lmms_eval_offline", "videochat_flash", "timesuite"}
FORM = "The event happens in the {} - {} seconds."


@pytest.mark.parametrize(
    ("reply", "readable_by"),
    [
        ("The event happens in the 10.0 - 20.0 seconds.", EARLY | {"lmms_eval", "tolerant"}),
        ("10.0 to 20.0", {"lmms_eval", "videochat_flash", "time_r1", "tolerant"}),
        ("From 10.0s to 20.0s", {"lmms_eval", "tolerant"}),
        ("It starts at 10 seconds and ends at 20 seconds", {"tolerant"}),
        ("the start time is 10.0\nthe end time is 20.0", EARLY | {"lmms_eval", "tolerant"}),
        ("00:10 - 00:20", {"lmms_eval", "tolerant"}),
        ("[10.0, 20.0]", {"tolerant"}),
        ("between 10.0 and 20.0 seconds", {"time_r1", "tolerant"}),
        ("I do not know.", set()),
    ],
)  # fmt: skip
def test_six_ways_to_read_a_reply(root: Path, reply: str, readable_by: set[str]) -> None:
    tasks = {protocol: mini(root, protocol=protocol) for protocol in CharadesSTA.protocols}
    grades = {protocol: task.grade(asked(task)["AAAA2_0"], reply) for protocol, task in tasks.items()}
    assert {protocol for protocol, grade in grades.items() if grade.extracted == (10.0, 20.0)} == readable_by
    assert {protocol for protocol, grade in grades.items() if grade.values["R@0.7"] == 1} == readable_by


def test_time_r1_reads_the_last_span_wherever_it_stands(root: Path) -> None:
    task = mini(root, protocol="time_r1")
    q = asked(task)["AAAA2_0"]
    assert task.grade(q, OWN_FORM["time_r1"].format(10.0, 20.0)).score == 1
    assert task.grade(q, "<think>10.0 to 20.0</think><answer>no idea</answer>").score == 1
    assert task.grade(q, "20.0 to 10.0").score == 0  # not turned round


# Scores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", list(CharadesSTA.protocols))
def test_perfect_and_useless_answers(root: Path, protocol: str) -> None:
    task = mini(root, protocol=protocol)
    perfect = task.summarize(answer(task, lambda q: OWN_FORM.get(protocol, FORM).format(*span(q))))
    assert {m.name: perfect.metric(m.name).value for m in task.rules.metrics} == dict.fromkeys(
        ("mIoU", "R@0.3", "R@0.5", "R@0.7"), 100
    )
    assert perfect.headline.metric == "mIoU" and perfect.headline.clusters == 4
    useless = task.summarize(answer(task, lambda q: "I cannot see that."))
    assert {row.value for row in useless.rows} == {0.0} and useless.n_invalid == len(LINES)


def test_thresholds_include_themselves(root: Path) -> None:
    """10 to 20 against 10 to 15 is an IoU of exactly a half."""
    task = mini(root)
    grade = task.grade(asked(task)["AAAA2_0"], FORM.format(10, 15))
    assert grade.values["iou"] == 0.5
    assert [grade.values[f"R@{t}"] for t in (0.3, 0.5, 0.7)] == [1, 1, 0]


def test_the_whole_video_as_an_answer(root: Path) -> None:
    """IoU by hand: the span's length over the video's, or the other way round where the span is longer."""
    task = mini(root)
    ends = {"AAAA1": 30, "AAAA2": 24, "BBBB3": 35, "CCCC4": 21}
    scores = task.summarize(answer(task, lambda q: FORM.format(0, ends[q.id[:5]])))
    ious = [7 / 30, 8 / 30, 10 / 24, 4 / 25.2, 5 / 35, 5 / 35, 5 / 35, 15 / 35, 20 / 35, 12.1 / 21]
    assert scores.headline.value == pytest.approx(100 * sum(ious) / 10)
    assert [scores.metric(f"R@{t}").value for t in (0.3, 0.5, 0.7)] == [40, 20, 0]


def test_spans_that_end_after_their_video(root: Path, tmp_path: Path) -> None:
    """A model that knows when the video ends cannot reach the span; cut at the end, it can."""
    task = mini(root)
    records = answer(
        task, lambda q: FORM.format(span(q)[0], min(span(q)[1], 24.0) if q.id == "AAAA2_1" else span(q)[1])
    )
    scores = task.summarize(records)
    assert scores.metric("mIoU").value == pytest.approx(100 * (9 + 4 / 5.2) / 10)
    assert scores.metric("mIoU, gold cut at the video's end").value == pytest.approx(100)
    (tmp_path / "charades_sta_test.txt").write_text((root / "charades_sta_test.txt").read_text())
    unknown = at(CharadesSTA(), tmp_path)
    names = {row.metric for row in unknown.summarize(answer(unknown, lambda q: FORM.format(*span(q)))).rows}
    assert names == {"mIoU", "R@0.3", "R@0.5", "R@0.7"}


def test_failed_questions_count_as_misses(root: Path) -> None:
    task = mini(root)
    scores = task.summarize(answer(task, lambda q: None if q.id == "CCCC4_0" else FORM.format(*span(q))))
    assert (scores.headline.value, scores.headline.n, scores.n_failed) == (90, 10, 1)
    assert not scores.complete


def test_slices(root: Path) -> None:
    scores = mini(root).summarize(answer(mini(root), lambda q: FORM.format(*span(q))))
    counts = {(row.group, row.label): row.n for row in scores.rows if row.metric == "mIoU" and row.group}
    assert counts == {
        ("gold_length", "10 s and more"): 4,
        ("gold_length", "5 to 10 s"): 6,
        ("gold_position", "first third"): 5,
        ("gold_position", "middle third"): 2,
        ("gold_position", "last third"): 3,
    }


# The miniature -------------------------------------------------------------------------------------------------------


def test_the_miniature_shows_what_it_asks_about(root: Path) -> None:
    def colours(video: str, *times_s: float) -> list[str]:
        return [nearest_colour(frame[:8]) for frame in pixels_at(root / "videos" / f"{video}.mp4", *times_s)]

    assert colours("AAAA1", 5.8, 6.1, 12.8, 13.1) == ["gray", "red", "red", "gray"]
    assert colours("AAAA2", 9.8, 10.1, 19.8, 20.1) == ["white", "green", "green", "yellow"]
    assert colours("CCCC4", 11.8, 12.1) == ["orange", "cyan"]


def test_the_miniature_has_the_same_bytes_every_time(root: Path, tmp_path: Path) -> None:
    CharadesSTA().make_miniature(tmp_path)
    files = [p.relative_to(root) for p in sorted(root.rglob("*")) if p.is_file()]
    assert len(files) == 6
    assert all((root / f).read_bytes() == (tmp_path / f).read_bytes() for f in files)
