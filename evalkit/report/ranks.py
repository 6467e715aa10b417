"""Ranks that claim no more than the data shows: a run stands between 1 + (runs surely better) and n - (runs surely
worse). Where noise alone could have made the order, runs share a range and no rank is given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from evalkit.scoring.compare import ALPHA, difference
from evalkit.scoring.slices import slices_of
from evalkit.stats import holm, mcnemar

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

    Two runs differ where the clustered interval of their paired difference leaves out 0 and the exact test agrees after
    Holm's correction over all pairs; where they share no questions, where their intervals do not overlap.
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
    """(winner, loser) of each pair whose difference is more than noise. The exact tests come first: only pairs that
    they leave standing need the bootstrap of an interval."""
    metric, unit = entries[0].headline_rule()
    scored = [slices_of(entry.records(), metric, [metric], (), unit)[0] for entry in entries]
    values = [{part.id: part.value for part in run.units if part.value is not None} for run in scored]
    tested: list[tuple[int, int, float]] = []
    for i, j in combinations(range(len(entries)), 2):
        if shared := values[i].keys() & values[j].keys():
            gained = sum(values[j][id] > values[i][id] for id in shared)
            lost = sum(values[j][id] < values[i][id] for id in shared)
            tested.append((i, j, mcnemar(gained, lost).exact))
        elif (sign := _apart(entries[i], entries[j])) != 0:
            yield (j, i) if sign > 0 else (i, j)
    for (i, j, _), p in zip(tested, holm([p for _, _, p in tested]), strict=True):
        if p <= ALPHA:
            found = difference(scored[i], scored[j], resamples=2000)
            if found.excludes_zero:
                yield (j, i) if found.delta > 0 else (i, j)


def _apart(a: Entry, b: Entry) -> int:
    """1 where the interval of `b` lies above that of `a`, -1 below, 0 where they overlap or one has none."""
    first, second = a.scores.headline, b.scores.headline
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return 0
    return int(second.low > first.high) - int(second.high < first.low)
