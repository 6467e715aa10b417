"""LongVideoBench: two layouts that give the same questions, prompts byte by byte, subtitles between the frames, and
submission files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from evalkit.errors import ConfigError, DataError, SampleError
from evalkit.scoring.extract import seeded_choice
from evalkit.tasks._longvideobench_subtitles import Line, Subtitles, interleave, read_lines, spread
from evalkit.tasks._mini.longvideobench import FILMS, TEST, VAL
from evalkit.tasks.longvideobench import LongVideoBench
from evalkit.types import Cue, FramePlan
from evalkit.video.scenes import nearest_colour

from .answers import answer, at, complete, golden_prompts, made, oracle, pixels_at, prompts, questions, write_parquet


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("longvideobench")
    LongVideoBench().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(LongVideoBench(**settings), root)


def each_second(duration_s: int, fps: int = 8) -> FramePlan:
    indices = tuple(range(0, duration_s * fps, fps))
    return FramePlan(indices, tuple(i / fps for i in indices), fps, duration_s * fps, "longvideobench")


def table_rows(path: Path) -> list[dict[str, Any]]:
    """The annotations as the hub's table holds them: options in columns, no level, no position."""
    rows = []
    for row in json.loads(path.read_text()):
        row = {k: v for k, v in row.items() if k not in ("level", "position")}
        padded = [*row.pop("candidates"), *["N/A"] * 5][:5]
        rows.append({**row, **{f"option{i}": o for i, o in enumerate(padded)}})
        rows[-1].setdefault("correct_choice", -1)
    return rows


@pytest.fixture(scope="module")
def hub(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("longvideobench_hub")
    for name in ("videos", "subtitles"):
        (folder / name).symlink_to(root / name)
    write_parquet(folder / "validation-00000-of-00001.parquet", table_rows(root / "lvb_val.json"))
    write_parquet(folder / "test-00000-of-00001.parquet", table_rows(root / "lvb_test_wo_gt.json"))
    return folder


# Data ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["val", "test"])
def test_both_layouts_give_the_same_questions(root: Path, hub: Path, split: str) -> None:
    official, table = (questions(at(LongVideoBench(split=split), folder)) for folder in (root, hub))
    assert {id: q for id, (_, q) in official.items()} == {id: q for id, (_, q) in table.items()}
    assert len(official) == len(VAL if split == "val" else TEST)
    assert all(item.video.path.exists() and item.video.subtitles.exists() for item, _ in table.values())
    assert all((q.gold is None) == (split == "test") for _, q in official.values())


def test_what_a_question_carries(root: Path) -> None:
    item, q = questions(mini(root))["mini_b_1"]
    assert (q.gold, q.options) == ("C", ("White", "Purple", "Orange", "Black"))
    assert dict(q.groups) == {
        "duration_group": ("60",),
        "category": ("T2A",),
        "level": ("L1-Perception",),
        "topic": ("KA-Knowledge-Art",),
    }
    assert (item.video.id, item.cluster, item.video.duration_s, len(item.questions)) == ("mini_b", "mini_b", 40.0, 2)


def test_the_level_follows_from_the_category(root: Path) -> None:
    stated = {row["id"]: row["level"] for row in json.loads((root / "lvb_val.json").read_text())}
    assert {id: q.groups["level"][0] for id, (_, q) in questions(mini(root)).items()} == stated


def test_three_to_five_options(root: Path) -> None:
    assert {len(q.options) for _, q in questions(mini(root)).values()} == {3, 4, 5}


def test_a_short_copy_is_an_error(root: Path) -> None:
    task = complete(LongVideoBench(), root)
    with pytest.raises(DataError, match=r"\(val\): 8 questions .* a complete copy has 1337.*allow_missing=true"):
        list(task.items())


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("correct_choice", 5, "expected the number of one of 5 options, found 5"),
        ("correct_choice", None, "found None"),
        ("candidates", ["only one"], "two to five options"),
        ("duration", "long", "expected a number"),
    ],
)
def test_malformed_rows_are_named(root: Path, tmp_path: Path, column: str, value: Any, message: str) -> None:
    rows = json.loads((root / "lvb_val.json").read_text())
    rows[0][column] = value
    (tmp_path / "lvb_val.json").write_text(json.dumps(rows))
    with pytest.raises(DataError, match=rf'lvb_val.json, row 1, column "{column}": .*{message}'):
        list(LongVideoBench().load(tmp_path))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected lvb_test_wo_gt.json or test-00000-of-00001.parquet"):
        list(at(LongVideoBench(split="test"), tmp_path).items())


def test_questions_share_a_clip_only_with_the_same_subtitles(root: Path, tmp_path: Path) -> None:
    rows = json.loads((root / "lvb_val.json").read_text())
    rows[1]["starting_timestamp_for_subtitles"] = 7.5  # of the first question of mini_b
    (tmp_path / "lvb_val.json").write_text(json.dumps(rows))
    items = list(at(LongVideoBench(subtitles="none"), tmp_path).items())
    assert [[q.id for q in item.questions] for item in items if item.video.id == "mini_b"] == [
        ["mini_b_0"],
        ["mini_b_1"],
    ]
    assert {item.cluster for item in items if item.video.id == "mini_b"} == {"mini_b"}


# Subtitles -----------------------------------------------------------------------------------------------------------


def slowly(lines: Sequence[Line], times_s: Sequence[float]) -> tuple[Cue, ...]:
    """The published loop: all frames up to a line's middle come out first, then the line if a frame falls into it."""
    left, out, cues = list(times_s), 0, []
    for start, end, text in lines:
        middle = (start + end) / 2
        while left and left[0] <= middle:
            left.pop(0)
            out += 1
        if end - start < 1:
            start, end = middle - 0.5, middle + 0.5
        if any(start < t < end for t in times_s):
            cues.append(Cue(out, text))
    return tuple(cues)


seconds = st.floats(-20, 60) | st.integers(-40, 120).map(lambda halves: halves / 2)
lengths = st.floats(-1, 4) | st.integers(-2, 8).map(lambda halves: halves / 2)
lines_of_any_length = st.builds(
    lambda at, length, text: Line(at, at + length, text), seconds, lengths, st.text(max_size=3)
)


@given(st.lists(lines_of_any_length, max_size=12), st.lists(seconds, max_size=30).map(sorted))
@example([Line(1.2, 2.7, "longer than a second, and between two frames")], [1.0, 3.0])
@example([Line(1.2, 2.2, "a second, and between two frames")], [1.0, 1.19, 2.21])
def test_interleaving_is_the_published_loop(lines: list[Line], times_s: list[float]) -> None:
    assert interleave(lines, times_s) == slowly(lines, times_s)


def test_lines_between_the_frames(root: Path) -> None:
    """40 frames, one a second. `24.0 to 28` ends with the video, because its end is a whole number: its middle, 32,
    lies behind 33 frames. "a word between two seconds" becomes (5, 6), in which no frame was taken."""
    task = mini(root)
    item, _ = questions(task)["mini_b_0"]
    context = task.context(item, SimpleNamespace(plan=each_second(40)))  # type: ignore[arg-type]
    assert context.cues == (
        Cue(3, "let us count"),  # middle 2.0, and the frame at 2.0 s is before it
        Cue(14, "two"),
        Cue(33, "an end that is a whole number"),
        Cue(37, "something is moving"),
    )


def test_lines_are_moved_to_the_clip(root: Path) -> None:
    lines = read_lines(Subtitles(root / "subtitles" / "mini_a_en.json", 312.4, 12.0))
    assert [(round(line.start_s, 3), round(line.end_s, 3)) for line in lines] == [
        (-4.4, -1.4),
        (0.6, 3.5),
        (4.5, 7.5),
        (8.5, 11.6),
    ]
    task = mini(root)
    item, _ = questions(task)["mini_a_0"]
    context = task.context(item, SimpleNamespace(plan=each_second(12)))  # type: ignore[arg-type]
    assert [(cue.at, cue.text) for cue in context.cues] == [
        (3, "here is what I drink from"),
        (7, "and this keeps me warm"),
        (11, "with this I open the door"),
    ]


def test_the_lines_are_shared_and_no_part_of_a_prompt(root: Path) -> None:
    task = mini(root)
    texts = {line.text for name in FILMS for line in read_lines(Subtitles(root / f"subtitles/{name}_en.json", 0, 1))}
    said = [t for t in texts if t not in ("two", "my favourite animal", "and this keeps me warm", "this is chapter 3")]
    assert not [t for t in said for prompt in prompts(task).values() if t in prompt]


@pytest.mark.parametrize(
    ("settings", "cues"),
    [
        ({}, True),
        ({"subtitles": "none"}, False),
        ({"protocol": "lmms_eval"}, False),
        ({"protocol": "lmms_eval", "subtitles": "interleaved"}, True),
        ({"protocol": "video_xl_2"}, False),
        ({"protocol": "videochat_flash"}, False),
    ],
)
def test_who_sees_subtitles_between_frames(root: Path, settings: dict[str, str], cues: bool) -> None:
    task = mini(root, **settings)
    item, _ = questions(task)["mini_b_0"]
    assert bool(task.context(item, SimpleNamespace(plan=each_second(40))).cues) == cues  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"protocol": "video_xl_2", "subtitles": "interleaved"},
            r"video_xl_2 has no such way.*It can do: none",
        ),
        ({"protocol": "videochat_flash", "subtitles": "none"}, "It can do: text"),
        ({"subtitles": "text"}, "It can do: interleaved, none"),
        ({"subtitles": "interleave"}, 'Did you mean "interleaved"'),
        ({"protocol": "lmms-eval"}, 'Did you mean "lmms_eval"'),
    ],
)
def test_settings_that_would_do_nothing(settings: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LongVideoBench(**settings)


def test_every_score_says_what_was_shown(root: Path) -> None:
    named = {}
    for protocol, modes in LongVideoBench.modes.items():
        for mode in modes:
            task = mini(root, protocol=protocol, subtitles=mode)
            named[protocol, mode] = task.summarize(answer(task, oracle)).headline.metric
    assert named == {
        ("official", "interleaved"): "accuracy (interleaved subtitles)",
        ("official", "none"): "accuracy (no subtitles)",
        ("lmms_eval", "none"): "accuracy (no subtitles)",
        ("lmms_eval", "interleaved"): "accuracy (interleaved subtitles)",
        ("video_xl_2", "none"): "accuracy (no subtitles)",
        ("videochat_flash", "text"): "accuracy (subtitles in the prompt)",
    }


def test_missing_subtitles(root: Path, tmp_path: Path) -> None:
    (tmp_path / "lvb_val.json").write_text((root / "lvb_val.json").read_text())
    (tmp_path / "videos").symlink_to(root / "videos")
    with pytest.raises(DataError, match=r"4 subtitle files are missing, .*mini_a_en.json.*task.subtitles=none"):
        list(mini(tmp_path).items())
    assert len(list(mini(tmp_path, subtitles="none").items())) == 4
    for protocol in ("official", "videochat_flash"):
        task = mini(tmp_path, allow_missing=True, protocol=protocol)
        item = next(iter(task.items()))
        with pytest.raises(SampleError, match=r"mini_a_en.json cannot be read") as caught:
            task.context(item, SimpleNamespace(plan=each_second(12)))  # type: ignore[arg-type]
        assert caught.value.kind == "missing"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[{]",
        "3",
        "[3]",
        '[{"start": "1:2", "end": "0:0:1", "line": "x"}]',
        '[{"timestamp": [1.0], "text": "x"}]',
        '[{"timestamp": [1.0, 2.0], "text": null}]',
        '[{"timestamp": [null, 2.0], "text": "x"}]',
    ],
)
def test_damaged_subtitles_cost_their_clip(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(SampleError, match=r"x.json are damaged") as caught:
        read_lines(Subtitles(tmp_path / "x.json", 0.0, 10.0))
    assert caught.value.kind == "damaged"


def test_copies_that_name_subtitles_without_their_language(root: Path, tmp_path: Path) -> None:
    rows = json.loads((root / "lvb_val.json").read_text())
    rows[0]["subtitle_path"] = "mini_a.json"
    (tmp_path / "lvb_val.json").write_text(json.dumps(rows))
    (tmp_path / "subtitles").symlink_to(root / "subtitles")
    item = next(iter(at(LongVideoBench(), tmp_path).items()))
    assert item.video.subtitles is not None and item.video.subtitles.name == "mini_a_en.json"


# Prompts -------------------------------------------------------------------------------------------------------------

DIRECTLY = "Answer with the option's letter from the given choices directly."
ASKED = "On the black picture, what happens?"


def test_prompts_byte_by_byte(root: Path) -> None:
    options = "A. Nothing\nB. A square moves\nC. A cup falls"
    plain = f"{ASKED}\n{options}\n{DIRECTLY}\n"
    assert prompts(mini(root))["mini_b_0"] == f"Question: {ASKED}\n{options}\n{DIRECTLY}"
    assert prompts(mini(root, protocol="lmms_eval"))["mini_b_0"] == plain
    assert prompts(mini(root, protocol="video_xl_2"))["mini_b_0"] == plain
    assert prompts(mini(root, protocol="videochat_flash"))["mini_b_0"] == (
        " This video's subtitles are listed below: \nlet us count\ntwo\nan end that is a whole number\nsomething is "
        "moving.\n Select the best answer to the following multiple-choice question based on the video and the "
        f"subtitles. Respond with only the letter of the correct option.\nQuestion: {ASKED}\n(A). Nothing\n(B). A "
        f"square moves\n(C). A cup falls\n{DIRECTLY}\n"
    )


@pytest.mark.parametrize(("sample", "text"), golden_prompts("longvideobench"))
def test_golden_prompts(tmp_path: Path, sample: dict[str, Any], text: str) -> None:
    row = {
        "video_id": "u",
        "id": "u_0",
        "subtitle_path": "u_en.json",
        "duration": 60.0,
        "duration_group": 60,
        "starting_timestamp_for_subtitles": 0,
        "question_category": "S2E",
        "topic_category": "T",
        "correct_choice": 0,
        **sample,
    }
    write_parquet(tmp_path / "validation-0.parquet", [row])
    assert list(prompts(at(LongVideoBench(protocol="video_xl_2"), tmp_path)).values()) == [text]


def test_times_of_the_subtitles_in_the_prompt() -> None:
    assert spread(3.9, 512) == [0.0, 1.0, 2.0]
    assert spread(512.0, 512) == [float(i) for i in range(512)]
    assert spread(512.5, 512)[-1] == 512.5 / 512 * 511
    assert spread(1024.0, 512) == [2.0 * i for i in range(512)]


# Scores --------------------------------------------------------------------------------------------------------------


def test_perfect_answers(root: Path) -> None:
    for protocol in LongVideoBench.protocols:
        scores = mini(root, protocol=protocol).summarize(answer(mini(root, protocol=protocol), oracle))
        assert {row.value for row in scores.rows} == {100.0} and scores.complete
        assert [(r.label, r.n) for r in scores.rows if r.group == "duration_group"][:4] == [
            ("15", 1),
            ("60", 2),
            ("600", 2),
            ("3600", 3),
        ]


def test_always_a(root: Path) -> None:
    """Two of eight golds are at A: chapters in order, and the word between cat and dog."""
    task = mini(root)
    scores = task.summarize(answer(task, lambda q: "A"))
    assert scores.headline.value == 25 and scores.n_invalid == 0


def test_garbage_is_drawn_by_question(root: Path) -> None:
    """Options 5, 3, 4, 5, 4, 5, 5, 4: in expectation, draws are right for the sum of their inverses."""
    for protocol in LongVideoBench.protocols:
        task = mini(root, protocol=protocol)
        records = answer(task, lambda q: "?")
        shown = task.rules.metrics[0].name.removeprefix("accuracy ")
        drawn = {id: seeded_choice(id, "ABCDE"[: len(q.options)]) for id, (_, q) in questions(task).items()}
        assert {r.question: r.extracted for r in records} == drawn
        scores = task.summarize(records)
        hits = sum(drawn[id] == q.gold for id, (_, q) in questions(task).items())
        assert scores.headline.value == pytest.approx(100 * hits / 8) and scores.n_invalid == 8
        expected = scores.metric(f"expected accuracy {shown}").value
        assert expected == pytest.approx(100 * (4 / 5 + 1 / 3 + 3 / 4) / 8)
        assert scores.metric(f"strict accuracy {shown}").value == 0


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        ("Best option: (C)", "C"),  # the Video-MME script itself reads B
        ("The best option is D.", "D"),
        ("The correct option is C", "C"),
        ("Best answer: B", "B"),
        ("Answer: C", "A"),
        ("E", "E"),  # of a question with three options: no draw, and wrong
        ("<think>A or B?</think>C", "A"),  # no filter: task.reasoning=evalkit reads C
    ],
)
def test_how_replies_are_read(root: Path, reply: str, letter: str) -> None:
    task = mini(root)
    _, q = questions(task)["mini_b_0"]
    grade = task.grade(q, reply)
    assert (grade.extracted, grade.valid, grade.score) == (letter, True, float(letter == q.gold))


def test_videochat_flash_knows_only_the_letters_of_the_question(root: Path) -> None:
    task = mini(root, protocol="videochat_flash")
    found = questions(task)
    three, five = found["mini_b_0"][1], found["mini_a_0"][1]
    assert task.grade(five, "E").extracted == "E" and task.grade(five, "E").valid
    assert not task.grade(three, "E").valid
    assert task.grade(three, "(A) or rather (B)").extracted == "B"
    assert task.grade(three, "I see that a square moves across it").extracted == "B"


def test_submission_files_of_the_hidden_split(root: Path) -> None:
    task = mini(root, split="test")
    replies = {"mini_t_0": "The answer is D.", "mini_t_1": "no idea"}
    records = answer(task, lambda q: replies[q.id])
    assert all(r.score is None for r in records)
    files = {name: json.loads(text) for name, text in task.submission(records).items()}
    assert files == {
        "longvideobench_test_for_submission.json": replies,
        "longvideobench_test_letters.json": {"mini_t_0": "D", "mini_t_1": seeded_choice("mini_t_1", "ABCD")},
    }
    scores = task.summarize(records)
    assert scores.headline.value is None and scores.complete
    assert mini(root).submission(answer(mini(root), oracle)) == {}


# The miniature -------------------------------------------------------------------------------------------------------


def test_the_miniature_shows_what_it_asks_about(root: Path) -> None:
    def colours(name: str, *times_s: float) -> list[str]:
        return [nearest_colour(frame[:8]) for frame in pixels_at(root / "videos" / name, *times_s)]

    assert colours("mini_a.mp4", 2, 6, 10) == ["red", "blue", "green"]
    assert colours("mini_c.mp4", 20, 60, 100, 140, 180) == ["red", "green", "blue", "yellow", "cyan"]
    assert colours("mini_d.mp4", 100, 315, 450, 615) == ["gray", "pink", "gray", "brown"]


def test_the_miniature_has_the_same_bytes_every_time(root: Path, tmp_path: Path) -> None:
    LongVideoBench().make_miniature(tmp_path)
    files = [p.relative_to(root) for p in sorted(root.rglob("*")) if p.is_file()]
    assert len(files) == 12
    assert all((root / f).read_bytes() == (tmp_path / f).read_bytes() for f in files)
