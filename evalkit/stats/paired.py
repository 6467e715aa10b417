"""Tests for two runs that answered the same questions. Exact, by integers, at any size."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class McNemar(NamedTuple):
    """Two-sided p: `exact` by the binomial, `mid_p` with half the weight on the observed table (less conservative)."""

    exact: float
    mid_p: float


def mcnemar(gained: int, lost: int) -> McNemar:
    """Are the questions that changed as likely gained as lost? (McNemar 1947; mid-p: Fagerland et al. 2013.)"""
    changed, fewer = gained + lost, min(gained, lost)
    if changed == 0:
        return McNemar(1.0, 1.0)
    ways, tail = 1, 0  # ways = C(changed, i)
    for i in range(fewer + 1):
        tail += ways
        observed, ways = ways, ways * (changed - i) // (i + 1)
    total = 1 << changed
    exact = min(1.0, 2 * tail / total)
    return McNemar(exact, min(1.0, 1.0 if gained == lost else (2 * tail - observed) / total))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979): each may be compared with 5 % as if it were alone."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = worst
    return adjusted


class Agreement(NamedTuple):
    """Share of equal answers, and Cohen's kappa: the share beyond what the answers' frequencies give by chance."""

    equal: float
    kappa: float


def agreement(a: Sequence[object], b: Sequence[object]) -> Agreement:
    """Of two runs' answers to the same questions, None (unread) being an answer like others. nan without questions."""
    assert len(a) == len(b)
    if not a:
        return Agreement(math.nan, math.nan)
    equal = sum(x == y for x, y in zip(a, b, strict=True)) / len(a)
    counts_a, counts_b = Counter(a), Counter(b)
    chance = sum(counts_a[answer] * counts_b[answer] for answer in counts_a) / len(a) ** 2
    return Agreement(equal, (equal - chance) / (1 - chance) if chance < 1 else math.nan)
