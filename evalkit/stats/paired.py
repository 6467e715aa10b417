"""Several tests at once, and how often two runs gave the same answer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number (Holm 1979). If all hypotheses are true, the probability that any adjusted p
    is at most 0.05 is at most 0.05. None, where there is no test, stays None and does not count."""
    adjusted: list[float | None] = [None] * len(p_values)
    tests = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    largest = 0.0
    for rank, (p, index) in enumerate(tests):
        adjusted[index] = largest = max(largest, min(1.0, (len(tests) - rank) * p))
    return adjusted


def holm_levels(p_values: Sequence[float | None], alpha: float = 0.05) -> list[float]:
    """For each test the level at which its interval leaves out 0 exactly where its adjusted p is at most `alpha`.

    Holm's procedure compares the smallest p with alpha / m, the next with alpha / (m - 1), and so on, and stops at the
    first that is not below; all that follow are held to the level of that one. Without a test: `alpha`.
    """
    levels = [alpha] * len(p_values)
    tests = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    stopped: float | None = None
    for rank, (p, index) in enumerate(tests):
        level = alpha / (len(tests) - rank)
        if stopped is None and p > level:
            stopped = level
        levels[index] = level if stopped is None else stopped
    return levels


class Agreement(NamedTuple):
    """`equal`: share of equal answers, 0 to 1. `kappa`: Cohen's kappa, the share above what chance gives, with each
    run's own frequencies of answers."""

    equal: float
    kappa: float


def agreement(a: Sequence[object], b: Sequence[object]) -> Agreement:
    """Of two runs' answers to the same questions. None (an unreadable reply) is an answer like any other. nan without
    questions; kappa is nan if both runs gave one answer throughout."""
    assert len(a) == len(b)
    if not a:
        return Agreement(math.nan, math.nan)
    equal = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    counts_a, counts_b = Counter(a), Counter(b)
    chance = sum(counts_a[answer] * counts_b[answer] for answer in counts_a) / len(a) ** 2
    return Agreement(equal, (equal - chance) / (1 - chance) if chance < 1 else math.nan)
