"""Ranks that claim no more than the data shows: a run stands between 1 + (runs surely better) and n - (runs surely
worse). Where noise alone could have made the order, runs share a range and no rank is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from evalkit.scoring.compare import ALPHA, Delta, difference
from evalkit.stats import holm

from .entries import Entry


@dataclass(frozen=True)
class Rank:
    """From `best` to `worst`, both counted from 1; equal where the place is clear."""

    best: int
    worst: int

    @property
    def tied(self) -> bool:
        return self.best != self.worst

    def __str__(self) -> str:
        return f"{self.best}–{self.worst}" if self.tied else str(self.best)


def ranks(entries: Sequence[Entry]) -> list[Rank | None]:
    """One rank for each run of the same benchmark and protocol; None for runs that are not whole, without a score, or
    alone.

    Two runs differ if the p-value of their paired difference, clustered by video, is at most 0.05 after Holm's
    correction over all pairs; if they share no questions, if their intervals do not overlap.
    """
    fit = [i for i, entry in enumerate(entries) if entry.whole and entry.scores.headline.value is not None]
    if len(fit) < 2:
        return [None] * len(entries)
    better, worse = dict.fromkeys(fit, 0), dict.fromkeys(fit, 0)
    for winner, loser in _sure([entries[i] for i in fit]):
        better[fit[loser]] += 1
        worse[fit[winner]] += 1
    return [Rank(1 + better[i], len(fit) - worse[i]) if i in better else None for i in range(len(entries))]


def _sure(entries: Sequence[Entry]) -> Iterator[tuple[int, int]]:
    """(winner, loser) of each pair whose difference is more than noise."""
    scored = [entry.digest.headline for entry in entries if entry.digest.headline is not None]
    values = [{unit.id: unit.value for unit in run.units if unit.value is not None} for run in scored]
    tested: list[tuple[int, int, Delta]] = []
    for i, j in combinations(range(len(entries)), 2):
        if (found := difference(scored[i], values[j])) is not None:
            tested.append((i, j, found))
        elif (sign := _apart(entries[i], entries[j])) != 0:
            yield (j, i) if sign > 0 else (i, j)
    for (i, j, found), p in zip(tested, holm([found.p for _, _, found in tested]), strict=True):
        if p is not None and p <= ALPHA:
            yield (j, i) if found.delta > 0 else (i, j)


def _apart(a: Entry, b: Entry) -> int:
    """1 where the interval of `b` lies above that of `a`, -1 below, 0 where they overlap or one has none."""
    first, second = a.scores.headline, b.scores.headline
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return 0
    return int(second.low > first.high) - int(second.high < first.low)
