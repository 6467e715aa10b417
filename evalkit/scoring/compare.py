"""Two runs on the same questions: is the difference more than luck?

The difference and its interval come from the same resampled videos for both runs; beside them stand the questions
gained and lost, an exact test, and the smallest difference that this data could have shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.errors import DataError
from evalkit.scoring.slices import Mean, Slice, cells_of, mean_of, slices_of
from evalkit.scoring.units import EACH, Unit, UnitScore
from evalkit.stats.bootstrap import Cells, percentile_interval
from evalkit.stats.paired import agreement, holm, mcnemar
from evalkit.stats.standard_error import detectable_difference
from evalkit.types import Record

if TYPE_CHECKING:
    import pandas as pd

RESAMPLES = 20_000
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Delta:
    """One score of both runs, in the metric's scale. `delta` = b - a with its 95 % paired interval. `gained` units are
    better in b, `lost` worse; `p` is exact McNemar over them (the sign test where scores are graded), `mid_p` its less
    conservative form, `p_holm` the p adjusted for all slices of its metric (for a row over all questions, p itself).
    `detectable`: the difference that this data would show with 80 % power. None with fewer than two clusters."""

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
    p: float
    mid_p: float
    p_holm: float
    detectable: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Comparison:
    """`only_a`, `only_b`: questions that one run alone has; they are left out. `equal_answers` and `kappa`: how often
    the runs extracted the same answer, and that beyond chance."""

    headline: Delta
    rows: list[Delta]
    questions: int
    only_a: int
    only_b: int
    equal_answers: float
    kappa: float

    @property
    def significant(self) -> bool:
        """The headline's interval leaves out 0 and the exact test agrees."""
        return self.headline.excludes_zero and self.headline.p <= ALPHA

    def verdict(self, a: str = "A", b: str = "B") -> str:
        """One sentence."""
        d = self.headline
        if d.delta == 0:
            size = f"{b} and {a} score the same {d.metric} ({d.a:.2f}"
        else:
            size = f"{b} scores {abs(d.delta):.2f} {'higher' if d.delta > 0 else 'lower'} than {a} in {d.metric} ("
            size += f"{d.a:.2f} to {d.b:.2f}"
        if d.low is None or d.high is None:
            return f"{size}): on a single video there is no saying whether that is more than luck."
        size += f"; 95 % interval of the difference {d.low:+.2f} to {d.high:+.2f}; p = {d.p:.3f}): "
        if self.significant:
            size += "more than chance explains; "
        elif d.excludes_zero or d.p <= ALPHA:
            size += "on the edge of what chance explains (interval and test disagree); "
        else:
            size += "no more than chance explains; "
        if not d.detectable:
            return size + f"no item of {d.n} on {d.clusters} videos came out differently."
        return size + f"{d.n} items on {d.clusters} videos would show a difference of {d.detectable:.1f} or more."

    def to_frame(self) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame([asdict(row) for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(
    a: Sequence[Record],
    b: Sequence[Record],
    metrics: Sequence[Mean],
    tables: Sequence[str] = (),
    unit: Unit = EACH,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare run b with run a on the questions that both have; metrics and tables as in `summarize`.

    Units that either protocol drops are left out of both. Raises DataError where the runs share no question.
    """
    common = {record.question for record in a} & {record.question for record in b}
    if not common:
        raise DataError("The two runs have no question in common: compare runs of the same benchmark and split.")
    first, second = _common(a, common), _common(b, common)
    clusters = {cluster: number for number, cluster in enumerate(dict.fromkeys(r.cluster for r in first))}
    pairs = [pair for metric in metrics for pair in _slices(first, second, metric, metrics, tables, unit)]
    replicates = [
        Cells.join([cells_of(pair[side], clusters) for pair in pairs]).bootstrap(resamples, seed) for side in (0, 1)
    ]
    rows = [_delta(*pair, replicates[1][:, i] - replicates[0][:, i]) for i, pair in enumerate(pairs)]
    rows = _adjusted([row for row in rows if row.n])
    if not rows or rows[0].group:
        raise DataError("The two runs have no graded question in common: their answers are hidden or all excluded.")
    answers = agreement([_hashable(r.extracted) for r in first], [_hashable(r.extracted) for r in second])
    return Comparison(
        rows[0], rows, len(common), len(a) - len(first), len(b) - len(second), answers.equal, answers.kappa
    )


def difference(a: Slice, b: Slice, seed: int = 0, resamples: int = RESAMPLES) -> Delta:
    """One score of two runs, over the units that both score."""
    a, b = _shared(a, {unit.id: unit for unit in b.units})
    clusters = {cluster: number for number, cluster in enumerate(sorted({unit.cluster for unit in a.units}))}
    replicates = [cells_of(part, clusters).bootstrap(resamples, seed)[:, 0] for part in (a, b)]
    return _delta(a, b, replicates[1] - replicates[0])


def _common(records: Sequence[Record], questions: set[str]) -> list[Record]:
    kept = [record for record in records if record.question in questions]
    return sorted(kept, key=lambda record: (record.cluster, record.unit, record.question))


def _slices(
    a: Sequence[Record], b: Sequence[Record], metric: Mean, metrics: Sequence[Mean], tables: Sequence[str], unit: Unit
) -> list[tuple[Slice, Slice]]:
    """The same slices of both runs, with the units that both score, in the same order. Labels and clusters are a's."""
    ours = slices_of(a, metric, metrics, tables, unit)
    theirs = {u.id: u for u in slices_of(b, metric, metrics, (), unit)[0].units}
    return [_shared(part, theirs) for part in ours]


def _shared(ours: Slice, theirs: Mapping[str, UnitScore]) -> tuple[Slice, Slice]:
    """The units of a slice that both runs score, with our values and with theirs."""
    shared = [u for u in ours.units if u.value is not None and u.id in theirs and theirs[u.id].value is not None]
    other = [replace(u, value=theirs[u.id].value) for u in shared]
    return replace(ours, units=shared), replace(ours, units=other)


def _delta(a: Slice, b: Slice, replicates: np.ndarray) -> Delta:
    scale = a.metric.scale
    low, high = (float(end[0]) * scale for end in percentile_interval(replicates[:, None]))
    clusters = len({u.cluster for u in a.units})
    changes = [
        y.value - x.value for x, y in zip(a.units, b.units, strict=True) if x.value is not None and y.value is not None
    ]
    gained, lost = sum(change > 0 for change in changes), sum(change < 0 for change in changes)
    p = mcnemar(gained, lost)
    mean_a, mean_b = mean_of(a.units, a.metric) or 0.0, mean_of(b.units, b.metric) or 0.0
    known = clusters > 1 and not math.isnan(low)
    return Delta(
        metric=a.metric.name,
        group=a.group,
        label=a.label,
        a=mean_a,
        b=mean_b,
        delta=mean_b - mean_a,
        low=round(low, 6) if known else None,
        high=round(high, 6) if known else None,
        n=len(a.units),
        clusters=clusters,
        gained=gained,
        lost=lost,
        p=p.exact,
        mid_p=p.mid_p,
        p_holm=p.exact,
        detectable=round(detectable_difference(float(np.nanstd(replicates)) * scale), 6) if known else None,
    )


def _adjusted(rows: list[Delta]) -> list[Delta]:
    """Holm over the slices of each metric."""
    adjusted: dict[tuple[str, str, str], float] = {}
    for metric in dict.fromkeys(row.metric for row in rows):
        slices = [row for row in rows if row.metric == metric and row.group]
        adjusted |= {
            (metric, row.group, row.label): p for row, p in zip(slices, holm([row.p for row in slices]), strict=True)
        }
    return [replace(row, p_holm=adjusted.get((row.metric, row.group, row.label), row.p)) for row in rows]


def _hashable(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
