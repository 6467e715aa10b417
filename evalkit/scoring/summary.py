"""From records to scores: headline, slices, and how sure one can be of them.

Every number comes with how many units it is over, how many were expected, how many replies could not be read, how many
questions failed, and the 95 % interval of a bootstrap over clusters (videos; VNBench: haystacks). With few clusters
(under about 30) such an interval is somewhat too narrow: read it with their number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from evalkit.errors import ConfigError, DataError, suggest
from evalkit.scoring.slices import Mean, Slice, cells_of, mean_of, slices_of
from evalkit.scoring.units import EACH, Unit
from evalkit.stats.bootstrap import Cells, percentile_interval
from evalkit.stats.standard_error import saturated_interval, wilson_interval
from evalkit.types import Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Mean", "Metric", "Scores", "summarize"]

RESAMPLES = 10_000
"""Enough for the ends of an interval to stand within a tenth of a point on benchmarks of this kind."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number. `group` and `label` are empty for all questions together. `value` is the protocol's: failed units
    count as wrong, units that the protocol drops do not count. `answered` leaves failed units out as well. `n` counts
    the units behind `value`; the other counts are units too. None: there is nothing to average, or (interval) fewer
    than two clusters."""

    metric: str
    group: str
    label: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    n_expected: int | None
    answered: float | None
    n_answered: int
    n_invalid: int
    n_failed: int
    n_excluded: int
    clusters: int


@dataclass(frozen=True)
class Scores:
    """The scores of one run under one protocol. The counts here are questions. `coverage`: answered questions of the
    expected ones. `complete`: all expected questions were answered."""

    protocol: str
    headline: Metric
    rows: list[Metric]
    n: int
    n_expected: int | None
    n_failed: int
    n_invalid: int
    n_excluded: int
    coverage: float
    complete: bool
    notes: list[str] = field(default_factory=list)

    def metric(self, name: str, group: str = "", label: str = "") -> Metric:
        """One row; raises ConfigError where there is none."""
        for row in self.rows:
            if (row.metric, row.group, row.label) == (name, group, label):
                return row
        names = sorted({row.metric for row in self.rows})
        raise ConfigError(f'No score "{name}" for {group or "all"} {label}.{suggest(name, names)} There are: {names}.')

    def to_frame(self) -> pd.DataFrame:
        """Tidy: one row a metric and label."""
        import pandas as pd

        return pd.DataFrame([{"protocol": self.protocol, **asdict(row)} for row in self.rows])

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scores:
        rows = [Metric(**row) for row in data["rows"]]
        return cls(**{**data, "headline": Metric(**data["headline"]), "rows": rows})


def summarize(
    records: Sequence[Record],
    metrics: Sequence[Mean],
    tables: Sequence[str] = (),
    unit: Unit = EACH,
    expected: int | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Scores:
    """Scores of the records of one run; the first of `metrics` is the headline.

    Each metric gives a row for all questions and one for each label of each of `tables`; a macro average that has a
    plain mean of the same value beside it gets no rows in tables. A question counts under each of its labels.
    `expected` is the number of questions of a complete run. The same records in another order give the same scores.
    Raises DataError without records or with two for one question, ConfigError for a value that no grade has.
    """
    records = sorted(records, key=lambda record: (record.cluster, record.unit, record.question))
    _check(records, metrics)
    clusters = {cluster: number for number, cluster in enumerate(dict.fromkeys(r.cluster for r in records))}
    slices = [part for metric in metrics for part in slices_of(records, metric, metrics, tables, unit)]
    intervals = _intervals(slices, clusters, seed, resamples)
    rows = [_row(part, interval, unit, expected) for part, interval in zip(slices, intervals, strict=True)]
    failed = sum(record.status != "ok" for record in records)
    wanted = len(records) if expected is None else expected
    incomplete = 0 if unit.size == 1 else sum(not part.complete for part in unit.reduce(records))
    return Scores(
        protocol=records[0].protocol,
        headline=rows[0],
        rows=rows,
        n=len(records),
        n_expected=expected,
        n_failed=failed,
        n_invalid=sum(record.status == "ok" and not record.valid for record in records),
        n_excluded=sum(record.status == "ok" and record.score is None for record in records),
        coverage=min(1.0, (len(records) - failed) / wanted),
        complete=len(records) - failed >= wanted and not incomplete,
        notes=[_incomplete(incomplete, unit.size)] if incomplete else [],
    )


def _check(records: Sequence[Record], metrics: Sequence[Mean]) -> None:
    if not records:
        raise DataError("There are no records to score: the run has not answered anything yet.")
    seen: set[str] = set()
    for record in records:
        if record.question in seen:
            raise DataError(f'Two records answer the question "{record.question}": score one run at a time.')
        seen.add(record.question)
    graded = [record for record in records if record.status == "ok" and record.score is not None]
    known = {"score"}.union(*(record.values for record in graded))
    for metric in metrics:
        if graded and metric.value not in known:
            raise ConfigError(
                f'Metric "{metric.name}" averages "{metric.value}", which no grade has.{suggest(metric.value, known)} '
                f"The grades have: {', '.join(sorted(known))}."
            )


def _row(part: Slice, interval: tuple[float | None, float | None], unit: Unit, expected: int | None) -> Metric:
    metric, size = part.metric, (part.metric.unit or unit).size
    scored = [u for u in part.units if u.value is not None]
    answered = [u for u in part.units if not u.failed]
    low, high = interval
    return Metric(
        metric=metric.name,
        group=part.group,
        label=part.label,
        value=mean_of(part.units, metric),
        low=low,
        high=high,
        n=len(scored),
        n_expected=None if part.group or metric.where or expected is None else expected // size,
        answered=mean_of(answered, metric),
        n_answered=sum(u.value is not None for u in answered),
        n_invalid=sum(u.invalid for u in part.units),
        n_failed=sum(u.failed for u in part.units),
        n_excluded=len(part.units) - len(scored),
        clusters=len({u.cluster for u in scored}),
    )


def _intervals(
    slices: Sequence[Slice], clusters: Mapping[str, int], seed: int, resamples: int
) -> list[tuple[float | None, float | None]]:
    """95 % ends for each slice, all from the same resamples."""
    cells = Cells.join([cells_of(part, clusters) for part in slices])
    low, high = percentile_interval(cells.bootstrap(resamples, seed))
    return [_ends(part, float(low[i]), float(high[i])) for i, part in enumerate(slices)]


def _ends(part: Slice, low: float, high: float) -> tuple[float | None, float | None]:
    """Where resampling cannot vary a rate, as all answers or all videos score alike, each video is a single trial: that
    they do is no reason to be sure."""
    values = {u.value for u in part.units if u.value is not None}
    clusters = len({u.cluster for u in part.units if u.value is not None})
    if clusters < 2:
        return None, None
    if part.metric.scale == 100 and values in ({0.0}, {1.0}):
        low, high = saturated_interval(clusters, right=values == {1.0})
    elif part.metric.scale == 100 and high - low < 1e-9:
        low, high = wilson_interval(low, clusters)
    return round(low * part.metric.scale, 6), round(high * part.metric.scale, 6)


def _incomplete(units: int, size: int) -> str:
    return f"{units} of the units do not have all of their {size} questions, and count as wrong"
