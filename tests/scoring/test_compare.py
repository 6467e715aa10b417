from __future__ import annotations

import dataclasses
import random
import time

import pytest

from evalkit.errors import DataError
from evalkit.scoring.compare import compare, difference
from evalkit.scoring.slices import slices_of
from evalkit.scoring.summary import Mean, summarize
from evalkit.scoring.units import EACH, all_of
from evalkit.stats import clustered_mean
from evalkit.types import Record
from tests.replay import SETTINGS, lvbench_records, needs_replay

from .test_summary import record

ACCURACY = [Mean("accuracy")]

# Delta, 95 % interval (20,000 draws of whole videos), gained, lost, letters equal and kappa as published. p is of a t
# test with the usual cluster-robust error and 102 degrees of freedom; published was exact McNemar: 0.060, 0.298, 0.023.
PAIRS = [
    ("pure", "w_chunk", -1.03, (-2.04, 0.00), 24, 40, 0.0458, 0.943, 0.924),
    ("pure", "w_chunk_bilevel", 0.97, (-0.73, 2.65), 98, 83, 0.2635, 0.833, 0.777),
    ("w_chunk", "w_chunk_bilevel", 2.00, (0.38, 3.61), 103, 72, 0.0176, 0.836, 0.781),
]
# accuracy, interval and clustered standard error as published
SCORES = {
    "pure": (47.64, (44.80, 50.52), 1.48),
    "w_chunk": (46.61, (43.75, 49.52), 1.50),
    "w_chunk_bilevel": (48.61, (45.81, 51.43), 1.44),
}


@needs_replay
@pytest.mark.parametrize("row", PAIRS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_published_paired_statistics(row: tuple) -> None:
    a, b, delta, interval, gained, lost, p, equal, kappa = row
    found = compare(lvbench_records(a), lvbench_records(b), ACCURACY)
    d = found.headline
    assert (round(d.delta, 2), d.gained, d.lost) == (delta, gained, lost)
    assert d.p == pytest.approx(p, rel=0.01)
    assert (d.low, d.high) == pytest.approx(interval, abs=0.1)
    assert (round(found.equal_answers, 3), round(found.kappa, 3)) == (equal, kappa)
    assert (found.questions, d.clusters) == (1549, 103)


@needs_replay
@pytest.mark.parametrize("setting", SETTINGS)
def test_published_intervals_and_errors(setting: str) -> None:
    value, interval, se = SCORES[setting]
    records = lvbench_records(setting)
    headline = summarize(records, ACCURACY).headline
    assert headline.value == pytest.approx(value, abs=0.005)
    assert (headline.low, headline.high) == pytest.approx(interval, abs=0.1)
    numbers = {video: i for i, video in enumerate({r.cluster for r in records})}
    found = clustered_mean([100 * (r.score or 0) for r in records], [numbers[r.cluster] for r in records])
    assert found.se == pytest.approx(se, abs=0.02)


@needs_replay
def test_verdicts_follow_the_p_value() -> None:
    found = compare(lvbench_records("pure"), lvbench_records("w_chunk_bilevel"), ACCURACY)
    assert found.headline.detectable == pytest.approx(2.4, abs=0.05)
    assert not found.headline.significant
    assert found.verdict("pure", "bi-level").startswith(
        "bi-level scores 0.97 higher than pure in accuracy (47.64 to 48.61; 95 % interval of the difference -0.7"
    )
    assert "no more than chance explains; 1549 units on 103 videos would show a difference of 2.4" in found.verdict()
    alone = compare(lvbench_records("w_chunk"), lvbench_records("w_chunk_bilevel"), ACCURACY)
    assert "p = 0.018): more than chance explains" in alone.verdict()


@needs_replay
def test_published_slices() -> None:
    """The interval of selfmedia, [0.32, 6.62], was published with the warning that a bootstrap of 21 videos is
    optimistic."""
    found = compare(lvbench_records("pure"), lvbench_records("w_chunk_bilevel"), ACCURACY, ["genre"])
    selfmedia = next(row for row in found.rows if row.label == "selfmedia")
    assert (round(selfmedia.delta, 2), selfmedia.clusters) == (3.47, 21)
    alone = selfmedia.at_level(0.05)
    assert (alone.low, alone.high) == pytest.approx((0.32, 6.62), abs=0.4)
    assert selfmedia.low is not None and selfmedia.high is not None and selfmedia.p_holm is not None
    assert (selfmedia.low > 0 or selfmedia.high < 0) == (selfmedia.p_holm <= 0.05)
    assert selfmedia.p is not None and selfmedia.p_holm == pytest.approx(6 * selfmedia.p)
    assert found.notes == ["1 of 7 scores are based on fewer than 15 videos, so that their 95% intervals and p-values "
                           "are approximate (on one video there are none): documentary (14)"]  # fmt: skip
    sport = next(
        row
        for row in compare(lvbench_records("pure"), lvbench_records("w_chunk"), ACCURACY, ["genre"]).rows
        if row.label == "sport"
    )
    assert (sport.gained, sport.lost) == (0, 6)


def runs(n: int = 300, seed: int = 3) -> tuple[list[Record], list[Record]]:
    rng = random.Random(seed)
    a = [record(str(i), float(rng.random() < 0.5), f"v{i % 30}", groups={"g": [rng.choice("xy")]}) for i in range(n)]
    b = [dataclasses.replace(r, score=1.0 if rng.random() < 0.3 else r.score) for r in a]
    return a, b


def test_the_same_run_does_not_differ() -> None:
    a, _ = runs()
    found = compare(a, a, ACCURACY, ["g"])
    d = found.headline
    assert (d.delta, d.gained, d.lost, d.p, d.detectable) == (0, 0, 0, 1, None)
    assert d.low is not None and d.high is not None and d.low == -d.high and 0 < d.high < 1
    assert not d.significant and found.verdict().startswith("B and A score the same accuracy")
    assert found.verdict().endswith("none of 300 units on 30 videos changed.")


def test_a_clear_gain_is_seen_and_mirrors() -> None:
    a, b = runs()
    forth, back = compare(a, b, ACCURACY).headline, compare(b, a, ACCURACY).headline
    assert forth.significant and forth.lost == 0
    assert (back.delta, back.low, back.high) == pytest.approx((-forth.delta, -(forth.high or 0), -(forth.low or 0)))


@pytest.mark.parametrize("metric", [Mean("accuracy"), Mean("macro", over="g")])
def test_the_difference_of_two_slices_is_that_of_their_runs(metric: Mean) -> None:
    a, b = runs()
    (ours, *_), (theirs, *_) = (slices_of(run, metric, [metric], (), EACH) for run in (a, b[:-20]))
    values = {unit.id: unit.value for unit in theirs.units if unit.value is not None}
    alone, found = difference(ours, values), compare(a, b[:-20], [metric]).headline
    assert alone is not None and dataclasses.astuple(alone) == pytest.approx(dataclasses.astuple(found))
    assert difference(ours, {}) is None


def test_only_common_and_scored_questions_count() -> None:
    a, b = runs(60)
    b[0].score = None
    found = compare(a[:50], b[:30] + b[40:], ACCURACY)
    assert (found.questions, found.only_a, found.only_b, found.headline.n) == (40, 10, 10, 39)
    with pytest.raises(DataError, match="no question in common"):
        compare(a[:10], b[10:], ACCURACY)
    with pytest.raises(DataError, match="hidden"):
        compare([dataclasses.replace(r, score=None) for r in a], b, ACCURACY)


def test_macro_and_all_of() -> None:
    groups = {"a": ["x"], "b": ["x"], "c": ["y"]}

    def tries(marks: dict[str, list[float]]) -> list[Record]:
        return [
            record(f"{u}{i}", mark, u, unit=u, groups={"g": groups[u]})
            for u, ms in marks.items()
            for i, mark in enumerate(ms)
        ]

    a = tries({"a": [1, 1], "b": [1, 0], "c": [0, 1]})
    b = tries({"a": [1, 1], "b": [1, 1], "c": [0, 1]})
    d = compare(a, b, [Mean("2/2", over="g")], ["g"], all_of(2)).headline
    assert (d.a, d.b, d.n, d.gained, d.lost) == (25, 50, 3, 1, 0)


def test_interval_p_and_verdict_agree() -> None:
    """In 200 comparisons, many of them near the limit: the interval leaves out 0, p is at most 0.05, and the verdict
    says so, all or none."""
    seen = set()
    for seed in range(200):
        rng = random.Random(seed)
        lift = {f"v{v}": rng.choice((0, 0.1, 0.2)) for v in range(20)}
        a = [record(str(i), float(rng.random() < 0.5), f"v{i % 20}") for i in range(100)]
        b = [dataclasses.replace(r, score=float(rng.random() < 0.55 + lift[r.cluster])) for r in a]
        found = compare(a, b, ACCURACY)
        d = found.headline
        assert d.low is not None and d.high is not None and d.p is not None
        assert (d.low > 0 or d.high < 0) == (d.p < 0.05) == d.significant == (": more than" in found.verdict())
        seen.add(d.significant)
    assert seen == {True, False}


def test_a_slice_uses_its_own_videos_alone() -> None:
    a, b = runs()
    inside = {f"v{i}" for i in range(12)}
    for r in (*a, *b):
        r.groups = {"g": ["x" if r.cluster in inside else "y"]}
    row = next(row for row in compare(a, b, ACCURACY, ["g"]).rows if row.label == "x")
    alone = compare(*([r for r in run if r.cluster in inside] for run in (a, b)), ACCURACY).headline
    assert (row.low, row.high, row.p, row.clusters) == (alone.low, alone.high, alone.p, 12)


def test_differences_stay_within_a_hundred_points() -> None:
    a = [record(str(i), 0.0, f"v{i // 2}") for i in range(4)]
    b = [dataclasses.replace(r, score=float(i > 0)) for i, r in enumerate(a)]
    d = compare(a, b, ACCURACY).headline
    assert (d.low, d.high) == (-100, 100) and d.p is not None and d.p > 0.05


def test_a_single_video_has_no_test() -> None:
    a = [record(str(i), float(i % 2)) for i in range(8)]
    b = [dataclasses.replace(r, score=1.0) for r in a]
    found = compare(a, b, ACCURACY)
    d = found.headline
    assert (d.delta, d.gained) == (50, 4)
    assert (d.low, d.high, d.p, d.p_holm, d.detectable, d.significant) == (None, None, None, None, None, False)
    assert found.verdict().endswith("all questions are on one video, so that there is no interval and no test.")
    assert len(found.notes) == 1 and "accuracy (1)" in found.notes[0]


def test_points_from_2_to_10_have_no_limits() -> None:
    a = [record(str(i), 2.0 + i % 3, f"v{i % 20}") for i in range(40)]
    b = [dataclasses.replace(r, score=(r.score or 0) + 4 + (i % 2)) for i, r in enumerate(a)]
    d = compare(a, b, [Mean("G-Avg", scale=1)]).headline
    assert d.delta == pytest.approx(4.5) and d.low is not None and d.high is not None and 4 < d.low < d.high < 5


def test_twenty_thousand_answers_take_seconds() -> None:
    a, b = runs(20_000)
    start = time.process_time()
    compare(a, b, ACCURACY, ["g"])
    assert time.process_time() - start < 3  # 0.3 s on an idle core
