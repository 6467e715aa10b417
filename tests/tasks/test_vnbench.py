"""VNBench: four tries a question, nine tasks, haystacks as clusters; and the shape of the published result."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import DataError
from evalkit.tasks._mini.vnbench import HAYSTACKS
from evalkit.tasks.vnbench import VNBench
from evalkit.types import Question
from evalkit.video.scenes import nearest_colour

from .answers import answer, at, complete, made, oracle, pixels_at, prompts, questions

TYPES = [
    *("ret_edit1", "ret_insert1", "ret_insert2"),
    *("ord_edit1", "ord_insert1", "ord_insert2"),
    *("cnt_edit1", "cnt_edit2", "cnt_insert1"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vnbench")
    VNBench().make_miniature(folder)
    return folder


def mini(root: Path, **settings: Any) -> Any:
    return made(VNBench(**settings), root)


def rows_of(root: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((root / "VNBench-main-4try.json").read_text())
    return rows


def write_rows(root: Path, rows: list[dict[str, Any]]) -> Path:
    (root / "VNBench-main-4try.json").write_text(json.dumps(rows))
    return root


# Data ----------------------------------------------------------------------------------------------------------------


def test_shape_of_the_miniature(root: Path) -> None:
    items = list(mini(root).items())
    assert len(items) == 18 and all(len(item.questions) == 4 for item in items)
    assert {item.cluster for item in items} == set(HAYSTACKS)
    assert Counter(item.questions[0].groups["type"][0] for item in items) == dict.fromkeys(TYPES, 2)
    for item in items:
        assert {q.unit for q in item.questions} == {item.video.id}
        assert [q.id for q in item.questions] == [f"{item.video.id}_{k}" for k in range(4)]
        assert len({frozenset(q.options) for q in item.questions}) == 1  # one set, reshuffled
        assert len({q.gold for q in item.questions}) in (3, 4)
        assert item.video.path.exists()


def test_counting_options_become_text(root: Path) -> None:
    _, q = questions(mini(root))["hay_1_cnt_insert1_0"]
    assert (q.options, q.gold) == (("2", "4", "3", "1"), "B")


def test_the_type_is_trusted_and_the_file_name_is_not(root: Path) -> None:
    item, q = questions(mini(root))["v_hay2_ret_insert2_0"]
    assert q.text == "Which colour fills the inserted picture?"
    assert dict(q.groups) == {"type": ("ret_insert1",), "family": ("ret",)}
    assert item.cluster == "v_hay2"


@pytest.mark.parametrize("folder", ["VNBench_new", "VNBench", "videos", "."])
def test_where_videos_may_stand(root: Path, tmp_path: Path, folder: str) -> None:
    write_rows(tmp_path, rows_of(root))
    video = tmp_path / folder / "hay_1_ord_edit1.mp4"
    video.parent.mkdir(exist_ok=True)
    video.write_bytes(b"")
    item, _ = questions(at(VNBench(), tmp_path))["hay_1_ord_edit1_0"]
    assert item.video.path == video


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("gt", "Moon", "'Moon' is none of the options"),
        ("length", "long", "expected seconds, found 'long'"),
        ("options", "ABCD", "expected a list"),
    ],
)
def test_malformed_rows_are_named(root: Path, tmp_path: Path, column: str, value: Any, message: str) -> None:
    rows = rows_of(root)
    rows[2][column] = value
    with pytest.raises(DataError, match=rf'row 3, column "{column}": {message}'):
        list(VNBench().load(write_rows(tmp_path, rows)))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected VNBench-main-4try.json. Its videos go to .*/VNBench_new/<video>.mp4"
    ):
        list(at(VNBench(), tmp_path).items())


# Prompts -------------------------------------------------------------------------------------------------------------


def test_prompts_byte_by_byte(root: Path) -> None:
    q = "What is the secret word shown in the video?"
    official = (
        f"{q}\nA. Tree\nB. Lamp\nC. Boat\nD. Ring\nAnswer with the option's letter from the given choices directly."
    )
    assert prompts(mini(root))["hay_1_ret_edit1_0"] == official
    assert prompts(mini(root, protocol="llava_example"))["hay_1_ret_edit1_0"] == official
    video_xl = mini(root, protocol="video_xl")
    assert (
        prompts(video_xl)["hay_1_ret_edit1_0"] == f"Question: {q}\nOptions:\n(A) Tree\n(B) Lamp\n(C) Boat\n(D) Ring\n"
    )
    assert video_xl.rules.system == (
        "Carefully watch this video and pay attention to every detail. Based on your observations, select the best "
        "option that accurately addresses the question."
    )


# Replies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "official", "first_character", "video_xl"),
    [
        ("B", "B", "B", "B"),
        ("B.", "B", "B", "B"),
        ("The answer is B", "B", None, "B"),
        ("Answer: C", "A", "A", "A"),  # a capital A comes first in the rule, wherever it stands
        ("(C) Boat", "B", None, "C"),
        ("C. (A) is wrong", "C", "C", "A"),
        ("C\nBecause A is wrong", "A", "C", "A"),
        ("No. B", None, None, None),
        ("b", None, None, None),
        ("", None, None, None),
        ("<think>(A)?</think>(D)", "A", None, "A"),
        (" B", "B", "B", "B"),
    ],
)
def test_three_ways_to_read_a_reply(
    root: Path, reply: str, official: str | None, first_character: str | None, video_xl: str | None
) -> None:
    found = {}
    for protocol in VNBench.protocols:
        task = mini(root, protocol=protocol)
        _, q = questions(task)["hay_1_ret_edit1_0"]
        grade = task.grade(q, reply)
        found[protocol] = grade.extracted
        assert grade.valid == (grade.extracted is not None) and grade.score == float(grade.extracted == "B")
    assert found == {"official": official, "llava_example": first_character, "video_xl": video_xl}


def test_the_example_code_exchanges_two_slices(root: Path) -> None:
    """Its report shows ret_insert1 as ret_insert2 and the other way round; the means stay."""
    right = {"ret_insert1": "all", "ret_insert2": "none"}
    values = {}
    types = {id: q.groups["type"][0] for id, (_, q) in questions(mini(root)).items()}
    for protocol in ("official", "llava_example"):
        task = mini(root, protocol=protocol)
        records = answer(task, lambda q: oracle(q) if right.get(types[q.id]) == "all" else "none")
        scores = task.summarize(records)
        values[protocol] = [scores.metric("single try", "type", kind).value for kind in right]
        assert scores.metric("ret").value == pytest.approx(100 / 3)
    assert values == {"official": [100, 0], "llava_example": [0, 100]}


def test_a_question_says_which_try_it_is(root: Path) -> None:
    found = questions(mini(root))
    assert {id: q.meta["try"] for id, (_, q) in found.items()} == {id: int(id[-1]) for id in found}


# Scores --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", list(VNBench.protocols))
def test_perfect_and_useless_answers(root: Path, protocol: str) -> None:
    task = mini(root, protocol=protocol)
    perfect = task.summarize(answer(task, oracle))
    assert {row.value for row in perfect.rows} == {100.0} and perfect.complete
    assert (perfect.headline.metric, perfect.headline.n, perfect.headline.clusters) == ("Overall", 18, 2)
    useless = task.summarize(answer(task, lambda q: "no idea"))
    assert {row.value for row in useless.rows} == {0.0} and useless.n_invalid == 72


@pytest.mark.parametrize("letter", "ABCD")
def test_always_one_letter_scores_exactly_nothing(root: Path, letter: str) -> None:
    task = mini(root)
    scores = task.summarize(answer(task, lambda q: letter))
    assert scores.headline.value == 0
    golds = {"A": 18, "B": 27, "C": 18, "D": 9}  # at B, D, A, C in nine videos, and at B, C, B, A in nine
    assert scores.metric("single try").value == pytest.approx(100 * golds[letter] / 72)


def test_families_and_the_mean_of_nine(root: Path) -> None:
    """Right where the first haystack is; and all of ret in the second: rates 1, 1, 1 and six halves."""
    task = mini(root)
    right = answer(task, lambda q: oracle(q) if q.id.startswith("hay_1") or q.groups["family"] == ("ret",) else "?")
    scores = task.summarize(right)
    assert scores.headline.value == pytest.approx(100 * (3 + 6 / 2) / 9)
    assert [scores.metric(family).value for family in ("ret", "ord", "cnt")] == [100, 50, 50]
    assert scores.metric("Overall", "type", "cnt_edit2").value == 50
    assert scores.metric("single try").value == pytest.approx(100 * (36 + 12) / 72)


def test_overall_weighs_tasks_equally(root: Path, tmp_path: Path) -> None:
    """One haystack has only one task: eight rates of one video and one of two."""
    rows = [row for row in rows_of(root) if "hay_1" in row["video"] or row["type"] == "ord_edit1"]
    task = at(VNBench(), write_rows(tmp_path, rows))
    scores = task.summarize(answer(task, lambda q: oracle(q) if q.id.startswith("v_hay2") else "?"))
    assert scores.headline.value == pytest.approx(100 * 0.5 / 9)


def test_a_missing_try_is_wrong_and_flagged(root: Path, tmp_path: Path) -> None:
    task = at(VNBench(), write_rows(tmp_path, rows_of(root)[1:]))
    scores = task.summarize(answer(task, oracle))
    assert scores.metric("Overall", "type", "ret_edit1").value == 50
    assert not scores.complete
    assert [note for note in scores.notes if note.startswith("1 ") and "4 questions" in note]


def test_a_failed_try_costs_its_question(root: Path) -> None:
    task = mini(root)
    scores = task.summarize(answer(task, lambda q: None if q.id == "hay_1_cnt_edit1_2" else oracle(q)))
    assert scores.metric("cnt").value == pytest.approx(100 * (1 + 1 + 0.5) / 3)
    assert (scores.headline.n_failed, scores.n_failed, scores.complete) == (1, 1, False)


def whole(reply_right: Iterator[bool]) -> list[dict[str, Any]]:
    """The rows of a complete copy: 150 haystacks, nine types, four tries; `hit` marks what will be answered."""
    rows = []
    for kind in TYPES:
        for haystack in range(150):
            for attempt in range(4):
                row = {"video": f"./VNBench/{haystack}_{kind}.mp4", "question": "?", "options": ["w", "x", "y", "z"]}
                rows.append({**row, "gt": "wxyz"[attempt], "type": kind, "try": attempt, "hit": next(reply_right)})
    return rows


def published() -> Iterator[bool]:
    """What LLaVA-OneVision-7B's published file adds up to: of 450 videos a family 347, 236 and 116 right in all tries,
    and 596 single tries of the others."""
    spare = 596
    for family in (347, 236, 116):
        for video in range(450):
            all_four = video < family
            for attempt in range(4):
                lucky = not all_four and attempt == 0 and spare > 0
                spare -= lucky
                yield all_four or lucky


def test_the_shape_of_the_published_result(tmp_path: Path) -> None:
    rows = whole(published())
    hits = {f"{Path(row['video']).stem}_{row['try']}": row["hit"] for row in rows}
    task = complete(VNBench(), write_rows(tmp_path, rows))
    with pytest.raises(DataError, match="1350 of 1350 videos are missing"):
        list(task.items())
    task = at(VNBench(), task.data.root)
    records = answer(task, lambda q: oracle(q) if hits[q.id] else "no")
    scores = task.summarize(records)
    head = scores.headline
    assert (len(records), head.n, head.n_expected, head.clusters) == (5400, 1350, 1350, 150)
    values = {name: scores.metric(name).value for name in ("ret", "ord", "cnt", "Overall", "single try")}
    assert {name: round(value or 0, 2) for name, value in values.items()} == {
        "ret": 77.11,
        "ord": 52.44,
        "cnt": 25.78,
        "Overall": 51.78,
        "single try": 62.81,
    }


def test_a_short_copy_is_an_error(root: Path) -> None:
    task = complete(VNBench(), root)
    with pytest.raises(DataError, match=r"72 questions .* a complete copy has 5400"):
        list(task.items())


# The miniature -------------------------------------------------------------------------------------------------------


def test_the_miniature_shows_what_it_asks_about(root: Path) -> None:
    def colours(name: str) -> list[str]:
        frames = pixels_at(root / "VNBench_new" / name, 2.5, 5.5, 9.5, 12.5)
        return [nearest_colour(frame[:8]) for frame in frames]

    assert colours("hay_1_ord_insert2.mp4") == ["red", "blue", "yellow", "pink"]
    assert colours("v_hay2_ord_insert2.mp4") == ["orange", "green", "blue", "red"]
    assert colours("hay_1_cnt_insert1.mp4") == ["red"] * 4
    assert colours("v_hay2_cnt_insert1.mp4") == ["red", "red", "gray", "cyan"]
    assert colours("hay_1_ret_insert2.mp4")[0] == "purple"  # ret_insert1's


def test_the_miniature_has_the_same_bytes_every_time(root: Path, tmp_path: Path) -> None:
    VNBench().make_miniature(tmp_path)
    files = [p.relative_to(root) for p in sorted(root.rglob("*")) if p.is_file()]
    assert len(files) == 19
    assert all((root / f).read_bytes() == (tmp_path / f).read_bytes() for f in files)


def test_golds_by_the_number_and_by_the_text(root: Path) -> None:
    """The data state the answer twice; the official code reads the text."""
    golds: dict[str, Question] = {id: q for id, (_, q) in questions(mini(root)).items()}
    for row in rows_of(root):
        assert golds[f"{Path(row['video']).stem}_{row['try']}"].gold == "ABCD"[row["gt_option"]]
