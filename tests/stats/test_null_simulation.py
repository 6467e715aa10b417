"""The error rates of compare's test, on a part of what benchmarks/null_simulation.py does."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from evalkit.scoring.compare import compare
from evalkit.scoring.slices import Mean
from evalkit.types import Record

from ..scoring.test_summary import record

SIMULATION = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "null_simulation.py"))
EFFECT = 2 * 0.6 / math.sqrt(2)  # twice the video effect


@pytest.mark.parametrize("kind", ["LVBench-like", "5 runs", "18 slices"])
def test_five_percent_false_alarms(kind: str) -> None:
    """200 studies: the standard error of a rate of 5 % is 1.5. McNemar finds too much in the same studies."""
    rates = SIMULATION["false_alarms"](np.random.default_rng(1), kind, EFFECT, 200)
    assert rates["evalkit"] <= 9
    assert rates["McNemar"] >= 13


@pytest.mark.parametrize("videos", [15, 20, 100])
@pytest.mark.parametrize("score", [0.5, 0.92])
def test_intervals_cover_the_truth(videos: int, score: float) -> None:
    """400 intervals: the standard error of 95 % is 1.1."""
    found = SIMULATION["coverage"](np.random.default_rng(2), videos, (7, 24), score, 0.6, 400)
    assert all(92 <= rate <= 99.5 for rate in found)


def test_compare_has_the_p_values_of_the_simulation() -> None:
    """The same answers as records, through compare: the same p, and Holm's over the slices."""
    rng = np.random.default_rng(3)
    video = SIMULATION["questions"](rng, 40, (7, 24))
    a, b = SIMULATION["answers"](rng, video, [0.0, 0.3], EFFECT)

    def records(scores: np.ndarray) -> list[Record]:
        rows = enumerate(zip(scores, video, strict=True))
        return [record(f"{i:05}", float(s), f"v{v:03}", groups={"genre": [str(v % 4)]}) for i, (s, v) in rows]

    found = compare(records(a), records(b), [Mean("accuracy")], ["genre"])
    p, _, _ = SIMULATION["p_values"](b - a, video)
    assert found.headline.p == pytest.approx(p)
    slices = [SIMULATION["p_values"]((b - a)[video % 4 == k], video[video % 4 == k])[0] for k in range(4)]
    assert [row.p for row in found.rows[1:]] == pytest.approx(slices)
    assert min(row.p_holm or 0 for row in found.rows[1:]) == pytest.approx(4 * min(slices))
