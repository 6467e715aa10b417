from __future__ import annotations

import dataclasses
import json
import random

import pytest

from evalkit.errors import ConfigError, DataError
from evalkit.scoring.summary import Mean, Scores, summarize
from evalkit.scoring.units import all_of
from evalkit.types import Record
from tests.replay import SETTINGS, expected_scores, lvbench_records, needs_replay


def record(question: str, score: float | None, cluster: str = "v", **more: object) -> Record:
    fields: dict[str, object] = {
        "run": "r",
        "task": "t",
        "split": "test",
        "protocol": "official",
        "model": "m",
        "video": cluster,
        "question": question,
        "unit": question,
        "cluster": cluster,
        "groups": {},
        "gold": "A",
        "status": "ok",
        "score": score,
    }
    return Record(**{**fields, **more})  # type: ignore[arg-type]


@needs_replay
@pytest.mark.parametrize("setting", SETTINGS)
def test_lvbench_scores_to_the_last_digit(setting: str) -> None:
    expected = expected_scores()[setting]
    tables = {"type": "genre", "first_question_type": "first_capability", "question_type": "capability"}
    scores = summarize(lvbench_records(setting), [Mean("accuracy")], tuple(tables.values()), expected=1549)
    headline = scores.headline
    assert headline.value is not None
    assert (round(headline.value * 15.49), headline.n) == (expected["overall"]["correct"], expected["overall"]["total"])
    assert round(headline.value, 4) == expected["overall"]["accuracy"]
    assert scores.n_invalid == expected["unparsed"] and scores.complete and scores.coverage == 1
    for key, group in tables.items():
        for label, numbers in expected[key].items():
            row = scores.metric("accuracy", group, label)
            assert row.value is not None
            assert (row.n, round(row.value, 4)) == (numbers["total"], numbers["accuracy"]), (group, label)
        assert len([row for row in scores.rows if row.group == group]) == len(expected[key])


@needs_replay
@pytest.mark.parametrize(("setting", "value"), [("pure", 47.64), ("w_chunk", 46.61), ("w_chunk_bilevel", 48.61)])
def test_published_lvbench_headlines(setting: str, value: float) -> None:
    scores = summarize(lvbench_records(setting), [Mean("accuracy")])
    assert scores.headline.value is not None and round(scores.headline.value, 2) == value


def test_macro_and_micro_differ_and_macro_leads() -> None:
    """Task sizes 3 and 1: micro 2 of 4, macro the mean of 1/3 and 1."""
    tasks = {"order": [1.0, 0.0, 0.0], "count": [1.0]}
    records = [
        record(f"{task}{i}", score, f"{task}{i}", groups={"task": [task]})
        for task, marks in tasks.items()
        for i, score in enumerate(marks)
    ]
    scores = summarize(records, [Mean("M-Avg", over="task"), Mean("overall")], ["task"])
    assert scores.headline.metric == "M-Avg"
    assert scores.headline.value == pytest.approx(200 / 3)
    assert scores.metric("overall").value == 50
    rows = [(row.metric, row.label, row.value) for row in scores.rows if row.group == "task"]
    assert rows == [("overall", "count", 100), ("overall", "order", pytest.approx(100 / 3))]


def test_failed_is_wrong_and_excluded_leaves_the_denominator() -> None:
    records = [
        record("1", 1.0, "a"),
        record("2", 0.0, "a", valid=False),
        record("3", None, "b", valid=False),
        record("4", None, "c", status="failed"),
    ]
    scores = summarize(records, [Mean("accuracy")], expected=5)
    headline = scores.headline
    assert headline.value == pytest.approx(100 / 3)
    assert headline.answered == 50
    assert (headline.n, headline.n_answered, headline.n_failed, headline.n_invalid, headline.n_excluded) == (
        3,
        2,
        1,
        2,
        1,
    )
    assert (scores.n, scores.n_failed, scores.n_invalid, scores.n_excluded) == (4, 1, 2, 1)
    assert scores.coverage == pytest.approx(3 / 5) and not scores.complete


def test_all_of_four_needs_four() -> None:
    def tries(unit: str, marks: list[float]) -> list[Record]:
        return [record(f"{unit}_{i}", mark, unit, unit=unit, groups={"type": ["ret"]}) for i, mark in enumerate(marks)]

    records = [*tries("a", [1, 1, 1, 1]), *tries("b", [1, 1, 1, 0]), *tries("c", [1, 1, 1])]
    scores = summarize(
        records, [Mean("4/4", over="type"), Mean("single try", unit=all_of(1))], unit=all_of(4), expected=12
    )
    assert scores.headline.value == pytest.approx(100 / 3)
    assert (scores.headline.n, scores.headline.n_expected) == (3, 3)
    assert scores.metric("single try").value == pytest.approx(1000 / 11)
    assert not scores.complete
    incomplete, few = scores.notes
    assert incomplete == "1 of the units do not have all of their 4 questions, and count as wrong"
    assert few.startswith("2 of 2 scores are based on fewer than 15 videos") and few.endswith(
        ": 4/4 (3), single try (3)"
    )


def test_videos_that_score_alike_are_no_reason_to_be_sure() -> None:
    """Each video has one of four right, so that the score is 25 whichever video is left out."""
    records = [record(f"{v}-{q}", float(q == 0), f"v{v}") for v in range(6) for q in range(4)]
    headline = summarize(records, [Mean("accuracy")]).headline
    assert headline.value == 25 and headline.low is not None and headline.high is not None
    assert headline.low < 10 and headline.high > 55


def test_hidden_gold_has_no_value() -> None:
    scores = summarize([record(str(i), None, str(i)) for i in range(3)], [Mean("accuracy")], expected=3)
    assert (scores.headline.value, scores.headline.low, scores.headline.n, scores.n_excluded) == (None, None, 0, 3)
    assert scores.complete


def test_order_of_records_changes_nothing() -> None:
    rng = random.Random(5)
    records = [record(str(i), rng.random(), f"v{i % 17}", groups={"g": [rng.choice("xyz")]}) for i in range(300)]
    one = summarize(records, [Mean("m"), Mean("macro", over="g")], ["g"])
    rng.shuffle(records)
    assert summarize(records, [Mean("m"), Mean("macro", over="g")], ["g"]) == one


def test_round_trip() -> None:
    records = [record(str(i), float(i % 2), str(i % 5), groups={"g": ["x", "y"][: 1 + i % 2]}) for i in range(20)]
    scores = summarize(records, [Mean("accuracy")], ["g"])
    assert Scores.from_dict(json.loads(json.dumps(scores.to_dict()))) == scores
    assert [(row.label, row.n) for row in scores.rows] == [("", 20), ("x", 20), ("y", 10)]


def test_intervals_stay_within_0_and_100_and_need_two_videos() -> None:
    records = [record(str(i), float(i != 7), f"v{i // 3}") for i in range(60)]
    headline = summarize(records, [Mean("accuracy")]).headline
    assert headline.value == pytest.approx(100 * 59 / 60)
    assert headline.low is not None and headline.high is not None and 85 < headline.low < headline.high < 100
    perfect = summarize(records[9:], [Mean("accuracy")]).headline
    assert (perfect.value, perfect.high) == (100, 100) and perfect.low is not None and 70 < perfect.low < 85
    single = summarize(records[:3], [Mean("accuracy")])
    assert (single.headline.low, single.headline.high) == (None, None) and "accuracy (1)" in single.notes[0]
    assert summarize(records, [Mean("accuracy")]).notes == []


def test_points_outside_0_to_1_have_a_t_interval() -> None:
    records = [record(str(i), 2.0 + 8 * (i % 2), str(i)) for i in range(20)]
    headline = summarize(records, [Mean("G-Avg", scale=1)]).headline
    assert headline.value == 6 and (headline.low, headline.high) == pytest.approx((6 - 1.921, 6 + 1.921), abs=0.001)


def test_mistakes_are_named() -> None:
    with pytest.raises(DataError, match="no records"):
        summarize([], [Mean("accuracy")])
    with pytest.raises(DataError, match='Two records answer the question "1"'):
        summarize([record("1", 1.0), record("1", 0.0)], [Mean("accuracy")])
    with pytest.raises(ConfigError, match='Did you mean "iou"'):
        summarize([dataclasses.replace(record("1", 1.0), values={"iou": 0.5})], [Mean("mIoU", value="iuo")])
