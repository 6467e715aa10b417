"""Two runs on the same questions: their difference, its interval and its p-value.

Interval, p-value, Holm's correction and verdict come from one test of the change of each unit, clustered by video
(`evalkit/stats/intervals.py`), so that they cannot contradict each other. The units gained and lost are not tested: a
test of these counts (McNemar's) treats the questions of one video as independent, and finds differences too often.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from evalkit.errors import DataError
from evalkit.scoring.slices import Mean, Slice, averaged, estimate_of, few_videos, mean_of, slices_of, values_of
from evalkit.scoring.units import EACH, Unit
from evalkit.stats import (
    Estimate,
    agreement,
    detectable_difference,
    error_of,
    holm,
    holm_levels,
    interval_at,
    t_interval,
    t_test,
)
from evalkit.types import Record

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Delta:
    """One score of two runs, over the `n` units that both score, on `clusters` videos.

    `a`, `b`, `delta`: the scores and b - a, in the metric's scale.
    `low`, `high`: the 95 % interval of delta; in slices wider, so that it leaves out 0 exactly where `p_holm` is at
    most 0.05. `se`, `df`, `limit`: standard error, degrees of freedom, the largest possible difference if there is one.
    `gained`, `lost`: units with a higher and with a lower value in b.
    `p`: two-sided, before any correction.
    `p_holm`: p adjusted for all slices of the metric; p itself in the row of all questions.
    `detectable`: the true difference that p would show with a probability of 80 %; None if no unit changed.
    On a single video `low`, `high`, `p`, `p_holm` and `detectable` are None.
    """

    metric: str
    group: str
    label: str
    a: float
    b: float
    delta: float
    low: float | None
    high: float | None
    n: int
    clusters: int
    gained: int
    lost: int
    p: float | None
    p_holm: float | None
    detectable: float | None
    se: float | None = None
    df: float | None = None
    limit: float | None = None

    def at_level(self, alpha: float) -> Delta:
        """With the interval of probability 1 - alpha instead of 95 %."""
        if self.se is None or self.df is None:
            return self
        low, high = interval_at(self.delta, self.se, self.df, alpha)
        if self.limit is not None:
            low, high = max(low, -self.limit), min(high, self.limit)
        return replace(self, low=round(low, 6), high=round(high, 6))

    @property
    def significant(self) -> bool:
        """p is at most 0.05, before any correction."""
        return self.p is not None and self.p <= ALPHA


@dataclass(frozen=True)
class Comparison:
    """Two runs.

    `rows`: every metric over all questions and in its slices; `headline` is the first.
    `questions`: those that both runs have. `only_a`, `only_b`: those that one run alone has; they are left out.
    `equal_answers`, `kappa`: how often both runs extracted the same answer, 0 to 1, and Cohen's kappa of that.
    """

    headline: Delta
    rows: list[Delta]
    questions: int
    only_a: int
    only_b: int
    equal_answers: float
    kappa: float
    notes: list[str] = field(default_factory=list)

    def verdict(self, a: str = "A", b: str = "B") -> str:
        """One sentence."""
        d = self.headline
        if d.delta == 0:
            size = f"{b} and {a} score the same {d.metric} ({d.a:.2f}"
        else:
            size = f"{b} scores {abs(d.delta):.2f} {'higher' if d.delta > 0 else 'lower'} than {a} in {d.metric} ("
            size += f"{d.a:.2f} to {d.b:.2f}"
        if d.p is None:
            return f"{size}): all questions are on one video, so that there is no interval and no test."
        size += f"; 95 % interval of the difference {d.low:+.2f} to {d.high:+.2f}; {p_text(d.p)}): "
        size += "more than chance explains; " if d.significant else "no more than chance explains; "
        if d.detectable is None:
            return size + f"none of {d.n} units on {d.clusters} videos changed."
        return size + f"{d.n} units on {d.clusters} videos would show a difference of {d.detectable:.1f} or more."

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def p_text(p: float) -> str:
    return f"p = {p:.3f}" if p >= 0.001 else "p below 0.001"


def compare(
    a: Sequence[Record],
    b: Sequence[Record],
    metrics: Sequence[Mean],
    tables: Sequence[str] = (),
    unit: Unit = EACH,
) -> Comparison:
    """Compare run b with run a on the questions that both have; metrics and tables as in `summarize`.

    Units that either protocol excludes are left out of both. Labels and videos are those of run a. Raises DataError
    where the runs share no graded question.
    """
    common = {record.question for record in a} & {record.question for record in b}
    if not common:
        raise DataError("The two runs have no question in common: compare runs of the same benchmark and split.")
    first, second = _common(a, common), _common(b, common)
    rows = _adjusted([row for metric in metrics for row in _rows(first, second, metric, metrics, tables, unit)])
    if not rows or (rows[0].metric, rows[0].group) != (metrics[0].name, ""):
        raise DataError("The two runs have no graded question in common: their answers are hidden or all excluded.")
    answers = agreement([_hashable(r.extracted) for r in first], [_hashable(r.extracted) for r in second])
    return Comparison(
        headline=rows[0],
        rows=rows,
        questions=len(common),
        only_a=len(a) - len(first),
        only_b=len(b) - len(second),
        equal_answers=answers.equal,
        kappa=answers.kappa,
        notes=few_videos(rows),
    )


def difference(a: Slice, b: Mapping[str, float]) -> Delta | None:
    """One score of two runs, over the units that both score; None where there are none. `b` holds the values of the
    second run by the unit's id."""
    metric = a.metric
    units = [unit for unit in a.units if unit.value is not None and unit.id in b]
    parts = averaged(units, metric)
    ours, theirs = values_of(parts), [[b[unit.id] for unit in part] for part in parts]
    mean_a, mean_b = mean_of(ours, metric), mean_of(theirs, metric)
    if mean_a is None or mean_b is None:
        return None
    changes = [[y - x for x, y in zip(*pair, strict=True)] for pair in zip(ours, theirs, strict=True)]
    share = metric.is_share([value for part in (*ours, *theirs) for value in part])
    signs = [b[unit.id] - unit.value for unit in units if unit.value is not None]
    gained, lost = sum(sign > 0 for sign in signs), sum(sign < 0 for sign in signs)
    estimate = estimate_of(parts, changes)
    low, high, p, detectable = _tested(estimate, metric.scale, 1.0 if share else None)
    return Delta(
        metric=metric.name,
        group=a.group,
        label=a.label,
        a=mean_a,
        b=mean_b,
        delta=mean_b - mean_a,
        low=low,
        high=high,
        n=len(units),
        clusters=len({unit.cluster for unit in units}),
        gained=gained,
        lost=lost,
        p=p,
        p_holm=p,
        detectable=detectable if gained or lost else None,
        se=error_of(estimate) * metric.scale if p is not None else None,
        df=estimate.df if p is not None else None,
        limit=metric.scale if share else None,
    )


def _tested(estimate: Estimate, scale: float, limit: float | None) -> tuple[float | None, ...]:
    """low, high, p and detectable difference of a mean change, which lies between -limit and limit."""
    if estimate.clusters < 2:
        return None, None, None, None
    low, high = t_interval(estimate)
    if limit is not None:
        low, high = max(low, -limit), min(high, limit)
    return (
        round(low * scale, 6),
        round(high * scale, 6),
        t_test(estimate),
        round(detectable_difference(estimate) * scale, 6),
    )


def _common(records: Sequence[Record], questions: set[str]) -> list[Record]:
    kept = [record for record in records if record.question in questions]
    return sorted(kept, key=lambda record: (record.cluster, record.unit, record.question))


def _rows(
    a: Sequence[Record], b: Sequence[Record], metric: Mean, metrics: Sequence[Mean], tables: Sequence[str], unit: Unit
) -> list[Delta]:
    """One metric over all units and in every slice with a unit that both runs score."""
    theirs = slices_of(b, metric, metrics, (), unit)[0].units
    values = {unit.id: unit.value for unit in theirs if unit.value is not None}
    found = [difference(part, values) for part in slices_of(a, metric, metrics, tables, unit)]
    return [row for row in found if row is not None]


def _adjusted(rows: list[Delta]) -> list[Delta]:
    """Holm's correction over the slices of each metric, of p and of the interval alike."""
    adjusted = list(rows)
    for metric in dict.fromkeys(row.metric for row in rows):
        places = [i for i, row in enumerate(rows) if row.metric == metric and row.group]
        p_values = [rows[i].p for i in places]
        for i, p, level in zip(places, holm(p_values), holm_levels(p_values, ALPHA), strict=True):
            adjusted[i] = replace(rows[i].at_level(level), p_holm=p)
    return adjusted


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
