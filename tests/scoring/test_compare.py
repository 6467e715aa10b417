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
from evalkit.stats import clustered_se, design_effect, naive_se
from evalkit.types import Record
from tests.replay import SETTINGS, lvbench_records, needs_replay

from .test_summary import record

ACCURACY = [Mean("accuracy")]

# Published: delta, interval, gained, lost, exact p, letters equal, kappa (20,000 draws of whole videos).
PAIRS = [
    ("pure", "w_chunk", -1.03, (-2.04, 0.00), 24, 40, 0.060, 0.943, 0.924),
    ("pure", "w_chunk_bilevel", 0.97, (-0.73, 2.65), 98, 83, 0.298, 0.833, 0.777),
    ("w_chunk", "w_chunk_bilevel", 2.00, (0.38, 3.61), 103, 72, 0.023, 0.836, 0.781),
]
# accuracy, interval, naive and clustered standard error, design effect
ARMS = {
    "pure": (47.64, (44.80, 50.52), 1.27, 1.47, 1.35),
    "w_chunk": (46.61, (43.75, 49.52), 1.27, 1.50, 1.39),
    "w_chunk_bilevel": (48.61, (45.81, 51.43), 1.27, 1.44, 1.29),
}


@needs_replay
@pytest.mark.parametrize("row", PAIRS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_published_paired_statistics(row: tuple) -> None:
    a, b, delta, interval, gained, lost, p, equal, kappa = row
    found = compare(lvbench_records(a), lvbench_records(b), ACCURACY)
    d = found.headline
    assert (round(d.delta, 2), d.gained, d.lost, round(d.p, 3)) == (delta, gained, lost, p)
    assert (d.low, d.high) == pytest.approx(interval, abs=0.1)
    assert (round(found.equal_answers, 3), round(found.kappa, 3)) == (equal, kappa)
    assert (found.questions, d.clusters) == (1549, 103)


@needs_replay
@pytest.mark.parametrize("setting", SETTINGS)
def test_published_intervals_and_errors(setting: str) -> None:
    value, interval, naive, clustered, effect = ARMS[setting]
    records = lvbench_records(setting)
    headline = summarize(records, ACCURACY).headline
    assert headline.value == pytest.approx(value, abs=0.005)
    assert (headline.low, headline.high) == pytest.approx(interval, abs=0.1)
    marks, videos = [100 * (r.score or 0) for r in records], [r.cluster for r in records]
    assert naive_se(marks) == pytest.approx(naive, abs=0.005)
    assert clustered_se(marks, videos) == pytest.approx(clustered, abs=0.015)
    assert design_effect(marks, videos) == pytest.approx(effect, abs=0.02)


@needs_replay
def test_lvbench_pure_clustered_error_is_147() -> None:
    records = lvbench_records("pure")
    assert round(clustered_se([100 * (r.score or 0) for r in records], [r.cluster for r in records]), 2) == 1.47


@needs_replay
def test_detectable_difference_mid_p_and_verdict() -> None:
    found = compare(lvbench_records("pure"), lvbench_records("w_chunk_bilevel"), ACCURACY)
    assert found.headline.detectable == pytest.approx(2.4, abs=0.05)
    assert not found.significant
    assert found.verdict("pure", "bi-level").startswith(
        "bi-level scores 0.97 higher than pure in accuracy (47.64 to 48.61; 95 % interval of the difference -0.7"
    )
    assert "no more than chance explains; 1549 items on 103 videos would show a difference of 2.4" in found.verdict()
    edge = compare(lvbench_records("pure"), lvbench_records("w_chunk"), ACCURACY)
    assert round(edge.headline.mid_p, 3) == 0.046
    assert not edge.significant


@needs_replay
def test_published_slices() -> None:
    found = compare(lvbench_records("pure"), lvbench_records("w_chunk_bilevel"), ACCURACY, ["genre"])
    selfmedia = next(row for row in found.rows if row.label == "selfmedia")
    assert (round(selfmedia.delta, 2), round(selfmedia.p, 3), selfmedia.clusters) == (3.47, 0.135, 21)
    assert (selfmedia.low, selfmedia.high) == pytest.approx((0.32, 6.62), abs=0.1)
    assert selfmedia.p_holm == pytest.approx(6 * selfmedia.p)
    sport = next(
        row
        for row in compare(lvbench_records("pure"), lvbench_records("w_chunk"), ACCURACY, ["genre"]).rows
        if row.label == "sport"
    )
    assert (sport.gained, sport.lost, round(sport.p, 3)) == (0, 6, 0.031)


def runs(n: int = 300, seed: int = 3) -> tuple[list[Record], list[Record]]:
    rng = random.Random(seed)
    a = [record(str(i), float(rng.random() < 0.5), f"v{i % 30}", groups={"g": [rng.choice("xy")]}) for i in range(n)]
    b = [dataclasses.replace(r, score=1.0 if rng.random() < 0.3 else r.score) for r in a]
    return a, b


def test_the_same_run_does_not_differ() -> None:
    a, _ = runs()
    found = compare(a, a, ACCURACY, ["g"])
    d = found.headline
    assert (d.delta, d.low, d.high, d.gained, d.lost, d.p) == (0, 0, 0, 0, 0, 1)
    assert not found.significant and found.verdict().startswith("B and A score the same accuracy")


def test_a_clear_gain_is_seen_and_mirrors() -> None:
    a, b = runs()
    forth, back = compare(a, b, ACCURACY).headline, compare(b, a, ACCURACY).headline
    assert compare(a, b, ACCURACY).significant and forth.lost == 0
    assert (back.delta, back.low, back.high) == pytest.approx((-forth.delta, -(forth.high or 0), -(forth.low or 0)))


@pytest.mark.parametrize("metric", [Mean("accuracy"), Mean("macro", over="g")])
def test_the_difference_of_two_slices_is_that_of_their_runs(metric: Mean) -> None:
    a, b = runs()
    (ours, *_), (theirs, *_) = (slices_of(run, metric, [metric], (), EACH) for run in (a, b[:-20]))
    alone, found = difference(ours, theirs, resamples=500), compare(a, b[:-20], [metric], resamples=500).headline
    assert dataclasses.astuple(alone) == pytest.approx(dataclasses.astuple(found))


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


def test_twelve_thousand_answers_take_seconds() -> None:
    a, b = runs(12_000)
    start = time.process_time()
    compare(a, b, ACCURACY, ["g"], resamples=2000)
    assert time.process_time() - start < 3
