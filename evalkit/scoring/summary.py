"""From records to scores: headline, slices, and how sure one can be of them.

Every number comes with how many units it is over, how many were expected, how many replies could not be read, how many
questions failed, and the 95 % interval of a bootstrap over clusters (videos; VNBench: haystacks).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from evalkit.errors import ConfigError, DataError, suggest
from evalkit.scoring.units import EACH, Unit, UnitScore
from evalkit.stats.bootstrap import Cells, percentile_interval
from evalkit.types import Record

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Mean:
    """A metric: the mean of the value `value` of the grades, over units, times `scale`.

    `over` names a group: then it is the unweighted mean of the means of that group's labels (a macro average).
    `where` (group, label) keeps the questions of one label. `unit` overrides the protocol's, for a second metric on
    single questions beside an all-of headline.
    """

    name: str
    value: str = "score"
    over: str | None = None
    scale: float = 100.0
    where: tuple[str, str] | None = None
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """One number. `group` and `label` are empty for all questions together. `value` is the protocol's: failed units
    count as wrong, units that the protocol drops do not count. `answered` leaves failed units out as well. `n` counts
    the units behind `value`; the other counts are units too. None: there is nothing to average."""

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
    resamples: int = 2000,
) -> Scores:
    """Scores of the records of one run; the first of `metrics` is the headline.

    Each metric gives a row for all questions and one for each label of each of `tables`; a macro average that has a
    plain mean of the same value beside it gets no rows in tables. A question counts under each of its labels.
    `expected` is the number of questions of a complete run. The same records in another order give the same scores.
    Raises DataError without records or with two for one question, ConfigError for a value that no grade has.
    """
    records = sorted(records, key=lambda record: (record.cluster, record.unit, record.question))
    _check(records, metrics)
    rows = [
        row for metric in metrics for row in _rows(records, metric, metrics, tables, unit, expected, seed, resamples)
    ]
    failed = sum(record.status != "ok" for record in records)
    wanted = len(records) if expected is None else expected
    incomplete = sum(not part.complete for part in unit.reduce(records))
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
        notes=[f"{incomplete} units do not have all of their {unit.size} questions and count as wrong"]
        if incomplete
        else [],
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


def _rows(
    records: Sequence[Record],
    metric: Mean,
    metrics: Sequence[Mean],
    tables: Sequence[str],
    unit: Unit,
    expected: int | None,
    seed: int,
    resamples: int,
) -> list[Metric]:
    if metric.where:
        group, label = metric.where
        records = [record for record in records if label in record.groups.get(group, ())]
    unit = metric.unit or unit
    units = unit.reduce(records, metric.value)
    slices = [("", "", list(range(len(units))))]
    if not _has_plain_twin(metric, metrics):
        slices += [(table, label, part) for table in tables for label, part in _by_label(units, table).items()]
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(part.cluster for part in units))}
    clusters = np.array([numbers[part.cluster] for part in units], dtype=np.int64)
    low, high = _intervals(units, slices, metric, clusters, seed, resamples)
    rows = []
    for i, (group, label, members) in enumerate(slices):
        part = [units[m] for m in members]
        answered = [u for u in part if not u.failed]
        scored = [u for u in part if u.value is not None]
        wanted = None if group or metric.where or expected is None else expected // unit.size
        rows.append(
            Metric(
                metric=metric.name,
                group=group,
                label=label,
                value=_mean(part, metric),
                low=low[i],
                high=high[i],
                n=len(scored),
                n_expected=wanted,
                answered=_mean(answered, metric),
                n_answered=sum(u.value is not None for u in answered),
                n_invalid=sum(u.invalid for u in part),
                n_failed=sum(u.failed for u in part),
                n_excluded=len(part) - len(scored),
                clusters=len({u.cluster for u in scored}),
            )
        )
    return rows


def _has_plain_twin(metric: Mean, metrics: Sequence[Mean]) -> bool:
    plain = Mean("", metric.value, None, metric.scale, metric.where, metric.unit)
    return metric.over is not None and any(
        plain == Mean("", m.value, m.over, m.scale, m.where, m.unit) for m in metrics
    )


def _by_label(units: Sequence[UnitScore], group: str) -> dict[str, list[int]]:
    """Positions of the units under each label of a group, labels in natural order."""
    labels: dict[str, list[int]] = {}
    for position, unit in enumerate(units):
        for label in unit.groups.get(group, ()):
            labels.setdefault(label, []).append(position)
    return dict(sorted(labels.items(), key=lambda item: _natural(item[0])))


def _natural(label: str) -> tuple[float, str]:
    """Labels that are numbers (15, 60, 600, 3600 s) in their order, before the others in theirs."""
    try:
        return float(label), ""
    except ValueError:
        return math.inf, label


def _cells(units: Sequence[UnitScore], members: Sequence[int], metric: Mean) -> list[list[int]]:
    """The cells that the metric averages: all members, or one for each label of the group it runs over."""
    scored = [m for m in members if units[m].value is not None]
    if metric.over is None:
        return [scored]
    by_label = _by_label([units[m] for m in scored], metric.over)
    return [[scored[i] for i in positions] for positions in by_label.values()]


def _mean(units: Sequence[UnitScore], metric: Mean) -> float | None:
    cells = [[units[m].value or 0.0 for m in cell] for cell in _cells(units, range(len(units)), metric) if cell]
    if not cells:
        return None
    return metric.scale * math.fsum(math.fsum(cell) / len(cell) for cell in cells) / len(cells)


def _intervals(
    units: Sequence[UnitScore],
    slices: Iterable[tuple[str, str, list[int]]],
    metric: Mean,
    clusters: np.ndarray,
    seed: int,
    resamples: int,
) -> tuple[list[float | None], list[float | None]]:
    values = np.array([unit.value or 0.0 for unit in units])
    members = [_cells(units, part, metric) for _, _, part in slices]
    cells = Cells.gather(values, clusters, members)
    low, high = percentile_interval(cells.bootstrap(resamples, seed), LEVEL)
    enough = [len({int(clusters[m]) for cell in score for m in cell}) > 1 for score in members]
    ends = (
        [_end(v * metric.scale) if ok else None for v, ok in zip(side, enough, strict=True)] for side in (low, high)
    )
    return next(ends), next(ends)


def _end(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
