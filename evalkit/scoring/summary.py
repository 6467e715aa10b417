"""From the records of one run to its scores, each with its counts and a 95 % interval.

The intervals are clustered by video (VNBench: by haystack): see `evalkit/stats/intervals.py`. Scores with fewer than 15
videos are named in the notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from evalkit.errors import ConfigError, DataError, suggest
from evalkit.scoring.slices import Mean, Slice, averaged, estimate_of, few_videos, mean_of, slices_of, values_of
from evalkit.scoring.units import EACH, Unit, UnitScore
from evalkit.stats import share_interval, t_interval
from evalkit.types import Record

__all__ = ["Mean", "Metric", "Scores", "summarize"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One score and its counts, which are of units.

    `group`, `label`: the slice; empty for all questions together.
    `value`: the score of the protocol: failed units count as wrong, units that the protocol excludes do not count.
    `low`, `high`: its 95 % interval; None with fewer than two clusters.
    `n`: the units behind `value`. `clusters`: their videos.
    `answered`, `n_answered`: the score without the failed units, and the units behind it.
    `value` and `answered` are None where no unit has a value.
    """

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
    """The scores of one run under one protocol. The counts are of questions.

    `coverage`: the share of the expected questions that were answered, 0 to 1.
    `complete`: all expected questions were answered.
    """

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
) -> Scores:
    """Scores of the records of one run; the first of `metrics` is the headline.

    Each metric gives a row for all questions and one for each label of each of `tables`; a macro average that has a
    plain mean of the same value beside it gets no rows in tables. A question counts under each of its labels.
    `expected` is the number of questions of a complete run. The same records in another order give the same scores.
    Raises DataError without records or with two for one question, ConfigError for a value that no grade has.
    """
    records = sorted(records, key=lambda record: (record.cluster, record.unit, record.question))
    _check(records, metrics)
    slices = [part for metric in metrics for part in slices_of(records, metric, metrics, tables, unit)]
    rows = [_row(part, unit, expected) for part in slices]
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
        notes=[*([_incomplete(incomplete, unit.size)] if incomplete else []), *few_videos(rows)],
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


def _row(part: Slice, unit: Unit, expected: int | None) -> Metric:
    metric, size = part.metric, (part.metric.unit or unit).size
    scored = [u for u in part.units if u.value is not None]
    failed = sum(u.failed for u in part.units)
    value, low, high = _score(scored, metric)
    return Metric(
        metric=metric.name,
        group=part.group,
        label=part.label,
        value=value,
        low=low,
        high=high,
        n=len(scored),
        n_expected=None if part.group or metric.where or expected is None else expected // size,
        answered=_mean([u for u in scored if not u.failed], metric) if failed else value,
        n_answered=sum(not u.failed for u in scored),
        n_invalid=sum(u.invalid for u in part.units),
        n_failed=failed,
        n_excluded=len(part.units) - len(scored),
        clusters=len({u.cluster for u in scored}),
    )


def _score(units: Sequence[UnitScore], metric: Mean) -> tuple[float | None, float | None, float | None]:
    """Value, low and high, in the metric's scale."""
    parts = averaged(units, metric)
    values = values_of(parts)
    mean = mean_of(values, metric)
    if mean is None:
        return None, None, None
    estimate = estimate_of(parts, values)
    if estimate.clusters < 2:
        return mean, None, None
    share = metric.is_share([value for part in values for value in part])
    low, high = (share_interval if share else t_interval)(estimate)
    return mean, round(low * metric.scale, 6), round(high * metric.scale, 6)


def _mean(units: Sequence[UnitScore], metric: Mean) -> float | None:
    return mean_of(values_of(averaged(units, metric)), metric)


def _incomplete(units: int, size: int) -> str:
    return f"{units} of the units do not have all of their {size} questions, and count as wrong"
