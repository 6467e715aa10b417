"""Video-MME: prompts byte by byte with and without subtitles, subtitles of the frames that are read, each layout of
the data, what counts under each protocol, and the file for the leaderboard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from evalkit.errors import DataError, SampleError
from evalkit.tasks._subtitles import read_srt
from evalkit.tasks.videomme import VideoMME
from evalkit.types import Context, FramePlan, FrameStream
from evalkit.video.scenes import nearest_colour

from .answers import PLAN, answer, at, complete, golden_prompts, made, oracle, pixels_at, prompts, questions

ALL = tuple(VideoMME.protocols)
ROW = {
    "video_id": "901",
    "duration": "long",
    "domain": "Knowledge",
    "sub_category": "Law",
    "url": "https://www.youtube.com/watch?v=AbC123xyz00",
    "videoID": "AbC123xyz00",
    "question_id": "901-2",
    "task_type": "Object Reasoning",
    "question": "What's on the table?",
    "options": ["A. A cup.", "B. It's empty.", 'C. A "map".', "D. Keys."],
    "answer": "C",
}
SELECT = "Select the best answer to the following multiple-choice question based on the video"
LETTER = "Respond with only the letter (A, B, C, or D) of the correct option."
OPTIONS = 'A. A cup.\nB. It\'s empty.\nC. A "map".\nD. Keys.'
AS_LIST = "['A. A cup.', \"B. It's empty.\", 'C. A \"map\".', 'D. Keys.']"
DIRECTLY = "Answer with the option's letter from the given choices directly."


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videomme")
    VideoMME().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(VideoMME(**settings), root)


def one_row(folder: Path, srt: str | None = None, **changes: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test.jsonl").write_text(json.dumps(ROW | changes))
    if srt is not None:
        (folder / "subtitle").mkdir()
        (folder / "subtitle" / "AbC123xyz00.srt").write_text(srt)
    return folder


def rows(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(root / "videomme" / "test-00000-of-00001.parquet").to_pylist()
    return found


# Prompts -------------------------------------------------------------------------------------------------------------


def test_prompts_without_subtitles(tmp_path: Path) -> None:
    expected = {
        "official": f"{SELECT}. {LETTER}\nWhat's on the table?\n{OPTIONS}\nThe best answer is:",
        "lmms_eval": f"{SELECT} and the subtitles. {LETTER}\nWhat's on the table?\n{OPTIONS}\n\n{DIRECTLY}",
        "video_xl_2": f"{SELECT} and the subtitles. {LETTER}\nWhat's on the table?\n{AS_LIST}\n\n{DIRECTLY}",
        "videochat_flash": f"These are the frames of a video. {SELECT}. {LETTER}\nQuestion: What's on the table?\n"
        f"Option:\n{OPTIONS}\n{DIRECTLY}",
    }
    folder = one_row(tmp_path, srt="1\n00:00:00,000 --> 00:00:09,000\nnever shown\n")
    assert {p: prompts(at(VideoMME(protocol=p), folder))["901-2"] for p in ALL} == expected
    for protocol in ALL:
        assert (VideoMME(protocol=protocol).rules.system, VideoMME(protocol=protocol).rules.answer_prefix) == (None, "")


def test_prompts_are_those_of_the_published_logs(tmp_path: Path) -> None:
    for number, (sample, text) in enumerate(golden_prompts("videomme")):
        task = at(VideoMME(protocol="video_xl_2"), one_row(tmp_path / str(number), **sample))
        assert prompts(task)["901-2"] == text


SRT = """1
00:00:00,000 --> 00:00:00,900
<font color="white" size=".72c">at the first frame</font>

2
00:00:01,200 --> 00:00:01,900
<font color="white" size=".72c">between frames</font>

3
00:00:02,000 --> 00:00:02,125
<font color="white" size=".72c">at the</font>
<font color="white" size=".72c">third frame</font>

4
00:00:02,000 --> 00:00:04,000
at the third, without the tag
"""


def test_prompts_with_subtitles(tmp_path: Path) -> None:
    """Frames are taken at 0, 1, 2 and 3 s; a line counts where one of them falls into it."""
    folder = one_row(tmp_path, srt=SRT)
    tail = f"What's on the table?\n{OPTIONS}\nThe best answer is:"
    listed = "This video's subtitles are listed below: \n"
    expected = {
        "official": "This video's subtitles are listed below:\nat the first frame\nat the third frame\n"
        f"at the third, without the tag \n{SELECT}. {LETTER}\n{tail}",
        "lmms_eval": f"{listed}at the first frame\nat the\n{SELECT} and the subtitles. {LETTER}\n{tail}",
        "video_xl_2": f"{listed}at the first frame\nat the\n{SELECT} and the subtitles. {LETTER}\n"
        f"What's on the table?\n{AS_LIST}\nThe best answer is:",
        "videochat_flash": f"{listed}at the first frame\nbetween frames\nat the\nthird frame\n"
        f"These are the frames and subtitles of a video. {SELECT} and the subtitles. {LETTER}\n"
        f"Question: What's on the table?\nOption:\n{OPTIONS}\nThe best answer is:",
    }
    for protocol, text in expected.items():
        assert prompts(at(VideoMME(protocol=protocol, subtitles=True), folder))["901-2"] == text, protocol


def test_prompts_where_a_video_has_no_subtitles(tmp_path: Path) -> None:
    folder = one_row(tmp_path)
    tail = f"What's on the table?\n{OPTIONS}\nThe best answer is:"
    none = "This video's subtitles are listed below: \nNo subtitles available\n"
    expected = {
        "official": f"{SELECT}. {LETTER}\n{tail}",
        "lmms_eval": f"{none}{SELECT} and the subtitles. {LETTER}\n{tail}",
        "video_xl_2": f"{none}{SELECT} and the subtitles. {LETTER}\n"
        f"What's on the table?\n{AS_LIST}\nThe best answer is:",
        "videochat_flash": f"\nThese are the frames of a video. {SELECT}. {LETTER}\nQuestion: What's on the table?\n"
        f"Option:\n{OPTIONS}\nThe best answer is:",
    }
    for protocol, text in expected.items():
        assert prompts(at(VideoMME(protocol=protocol, subtitles=True), folder))["901-2"] == text, protocol


def test_a_line_is_shown_for_exactly_the_frames_that_fall_into_it(tmp_path: Path) -> None:
    srt = '1\n00:00:02,000 --> 00:00:03,000\n<font color="white" size=".72c">two</font>\n'
    folder = one_row(tmp_path, srt=srt)
    for index, shown in ((15, False), (16, True), (23, True), (24, False)):
        plan = FramePlan((index,), (index / 8,), 8.0, 100, "uniform")
        text = prompts(at(VideoMME(protocol="lmms_eval", subtitles=True), folder), plan)["901-2"]
        assert (": \ntwo\nSelect" in text, ": \n\nSelect" in text) == (shown, not shown), index


def test_the_miniature_shows_what_was_said_once_each(root: Path) -> None:
    """A frame a second of a video at 8 frames a second: the line over 0.1 s is missed, that over the same time as
    another replaced, and that outside the font tag left out."""
    plan = FramePlan(tuple(range(0, 96, 8)), tuple(map(float, range(12))), 8.0, 96, "uniform")
    text = prompts(mini(root, protocol="lmms_eval", subtitles=True), plan)["001-1"]
    listed = text.partition(": \n")[2].partition("\nSelect")[0].split("\n")
    assert listed == [
        "this is black moon",
        "this is yellow sun",
        "this is blue ",
        "said last, over the same time",
    ]
    tagless = prompts(mini(root, subtitles=True), plan)["001-1"]
    assert "a line outside the tag" in tagless
    assert "in a blink" not in tagless
    everything = prompts(mini(root, protocol="videochat_flash", subtitles=True), plan)["001-1"]
    assert "said first, over the same time\nsaid last, over the same time" in everything


# Data ----------------------------------------------------------------------------------------------------------------


def test_the_miniature_has_the_real_traps(root: Path) -> None:
    items = list(mini(root).items())
    assert [len(item.questions) for item in items] == [3] * 6
    assert [item.meta["duration"] for item in items] == ["short"] * 2 + ["medium"] * 2 + ["long"] * 2
    assert sorted(item.video.path.suffix for item in items) == [".mkv", *[".mp4"] * 5]
    assert sum(item.video.subtitles is not None and item.video.subtitles.is_file() for item in items) == 5
    assert items[3].questions[0].groups["domain"] == items[3].questions[0].groups["sub_category"] == ("Multilingual",)
    assert any('"' in str(list(q.options)) for item in items for q in item.questions)


def test_the_same_miniature_twice(root: Path, tmp_path: Path) -> None:
    VideoMME().make_miniature(tmp_path)
    files = [path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file()]
    assert len(files) == 12
    for file in files:
        assert (tmp_path / file).read_bytes() == (root / file).read_bytes(), file


def test_its_questions_can_be_answered_by_looking(root: Path) -> None:
    (early,) = pixels_at(root / "data" / "medium-2nd_.mkv", 5 * 16 + 8)  # purple is the fifth of the blocks of 16 s
    assert nearest_colour(early[:10]) == "orange"
    asked = {row["question_id"]: row for row in rows(root)}
    assert asked["302-1"]["options"]["ABCD".index(asked["302-1"]["answer"])] == "C. Orange."
    red = [nearest_colour(p[:10]) for p in pixels_at(root / "data" / "miniShort-2.mp4", *range(40))].count("red")
    assert red == 4  # two flashes of two seconds
    assert asked["002-1"]["options"]["ABCD".index(asked["002-1"]["answer"])] == "B. Twice."


@pytest.mark.parametrize("version", ["readme", "script"])
def test_the_authors_json_gives_the_same_questions(root: Path, tmp_path: Path, version: str) -> None:
    """One object a video; its keys have changed over time."""
    videos: dict[str, dict[str, Any]] = {}
    for row in rows(root):
        names = ("duration", "domain", "sub_category")
        if version == "script":
            names = ("duration_category", "video_category", "video_subcategory")
        shared = dict(zip(names, (row["duration"], row["domain"], row["sub_category"]), strict=True))
        file = {"url": row["url"]} if version == "script" else {"videoID": row["videoID"]}
        video = videos.setdefault(row["video_id"], {"video_id": row["video_id"], **shared, **file, "questions": []})
        options = {"options" if version == "readme" else "choices": row["options"]}
        keys = ("question_id", "task_type", "question", "answer")
        video["questions"].append({key: row[key] for key in keys} | options)
    (tmp_path / "Video-MME.json").write_text(json.dumps(list(videos.values())))
    (tmp_path / "videos").symlink_to(root / "data")
    (tmp_path / "subtitles").symlink_to(root / "subtitle")
    copy, hub = questions(at(VideoMME(), tmp_path)), questions(mini(root))
    assert [q for _, q in copy.values()] == [q for _, q in hub.values()]
    for (one, _), (other, _) in zip(copy.values(), hub.values(), strict=True):
        assert one.video.path.samefile(other.video.path)
        assert one.meta == other.meta
    assert prompts(at(VideoMME(subtitles=True), tmp_path)) == prompts(mini(root, subtitles=True))


def test_a_short_copy_is_named(root: Path) -> None:
    task = complete(VideoMME(), root)
    with pytest.raises(DataError, match=r"18 questions .* a complete copy has 2700"):
        list(task.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer": "E"}, r'row 1, column "answer": expected one of A, B, C, D, found \'E\''),
        ({"options": "A. x"}, r'row 1, column "options": expected a list'),
        ({"duration": None}, r'row 1, column "duration": expected text, found None'),
    ],
)
def test_a_malformed_row_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(at(VideoMME(), one_row(tmp_path, **change)).items())


def test_no_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no Video-MME: expected videomme/test-00000-of-00001\.parquet"):
        list(at(VideoMME(), tmp_path).items())


def test_missing_subtitles_of_a_long_video_are_an_error(root: Path, tmp_path: Path) -> None:
    """A short one may have none; a long one without is an incomplete copy."""
    (tmp_path / "videomme").symlink_to(root / "videomme")
    (tmp_path / "data").symlink_to(root / "data")
    (tmp_path / "subtitle").mkdir()
    for path in (root / "subtitle").iterdir():
        if path.stem != "longMinutes":
            (tmp_path / "subtitle" / path.name).symlink_to(path)
    assert len(list(mini(root, subtitles=True).items())) == 6
    with pytest.raises(DataError, match=r"2 videos have no subtitle file, .*longMinutes\.srt .* Unpack subtitle\.zip"):
        list(mini(tmp_path, subtitles=True).items())
    assert len(list(mini(tmp_path, subtitles=False).items())) == 6
    assert len(list(at(VideoMME(subtitles=True), tmp_path).items())) == 6


class _Frames:
    plan = PLAN


def test_damaged_subtitles_cost_their_clip_alone(tmp_path: Path) -> None:
    task = at(VideoMME(subtitles=True), one_row(tmp_path, srt="1\nsoon --> later\nhello\n"))
    (item,) = task.items()
    frames: FrameStream = _Frames()  # type: ignore[assignment]
    with pytest.raises(SampleError, match="soon --> later"):
        task.context(item, frames)
    assert isinstance(at(VideoMME(), tmp_path).context(item, frames), Context)


# Scores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subtitles", [False, True])
@pytest.mark.parametrize("protocol", ALL)
def test_oracle_and_metric_names(root: Path, protocol: str, subtitles: bool) -> None:
    task = mini(root, protocol=protocol, subtitles=subtitles)
    scores = task.summarize(answer(task, oracle))
    assert scores.headline.metric == ("accuracy (subtitles)" if subtitles else "accuracy (no subtitles)")
    assert {row.value for row in scores.rows} == {100}
    assert {row.group for row in scores.rows} == {"", "duration", "domain", "sub_category", "task_type"}


def test_replies_that_cannot_be_read(root: Path) -> None:
    """Six right, six wrong, six unreadable: the official script leaves the last out, the others do not."""

    def reply(q: Any) -> str:
        number = int(q.id[-1])
        wrong = "ABCD"[("ABCD".index(q.gold) + 1) % 4]
        return {1: q.gold, 2: wrong, 3: "no idea"}[number]

    for protocol, value, n in (("official", 50, 12), ("lmms_eval", 100 / 3, 18), ("video_xl_2", 100 / 3, 18)):
        task = mini(root, protocol=protocol)
        scores = task.summarize(answer(task, reply))
        assert (scores.headline.value, scores.headline.n) == (pytest.approx(value), n), protocol
        assert scores.n_invalid == 6


def test_constant_a_by_hand(root: Path) -> None:
    """A is right five times: 001-2, 301-2, 302-3, 601-3 and 602-2."""
    task = mini(root)
    scores = task.summarize(answer(task, lambda q: "A"))
    assert scores.headline.value == pytest.approx(100 * 5 / 18)
    name = scores.headline.metric
    assert {d: scores.metric(name, "duration", d).value for d in ("short", "medium", "long")} == {
        "short": pytest.approx(100 / 6),
        "medium": pytest.approx(200 / 6),
        "long": pytest.approx(200 / 6),
    }
    assert scores.metric(name, "domain", "Multilingual").n == scores.metric(name, "sub_category", "Multilingual").n == 3


@pytest.mark.parametrize(
    ("reply", "official", "lmms_eval"),
    [("Answer: C", "A", "C"), ("Best option: (C)", "B", "C"), ("The best answer is C", "C", "C"), ("b", None, None)],
)
def test_how_protocols_read_a_reply(root: Path, reply: str, official: str | None, lmms_eval: str | None) -> None:
    for protocol, letter in (("official", official), ("video_xl_2", official), ("lmms_eval", lmms_eval)):
        task = mini(root, protocol=protocol)
        assert {r.extracted for r in answer(task, lambda q: reply)} == {letter}


def test_submission_has_both_sets_of_keys(root: Path) -> None:
    task = mini(root)
    records = answer(task, lambda q: None if q.id == "001-2" or q.id.startswith("602") else f"I say {q.gold}")
    records = [record for record in records if not record.question.startswith("301")]
    (name, content), *more = task.submission(records).items()
    assert (name, more) == ("videomme_submission.json", [])
    videos = json.loads(content)
    assert [video["video_id"] for video in videos] == ["001", "002", "302", "601", "602"]
    assert [video["missing"] for video in videos] == [False] * 4 + [True]
    first = {row["question_id"]: row for row in rows(root)}["001-1"]
    assert videos[0]["questions"][0] == {
        "question_id": "001-1",
        "task_type": first["task_type"],
        "question": first["question"],
        "options": first["options"],
        "answer": "B",
        "response": "I say B",
    }
    assert videos[0]["questions"][1]["response"] == ""
    for new, old in (("duration", "duration_category"), ("domain", "video_category")):
        assert [video[new] for video in videos] == [video[old] for video in videos]


def test_subtitles_of_the_miniature_are_read_once_a_clip(root: Path) -> None:
    read_srt.cache_clear()
    prompts(mini(root, subtitles=True))
    assert read_srt.cache_info().misses == 5
