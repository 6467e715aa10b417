"""Metrics, the slices of the questions that they are computed for, and the clustered mean of a slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from evalkit.scoring.units import Unit, UnitScore
from evalkit.stats import FEW_CLUSTERS, Estimate, clustered_mean
from evalkit.types import Record


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

    def is_share(self, values: Sequence[float]) -> bool:
        """Whether the metric lies between 0 and 100: percent of values that are all from 0 to 1."""
        return self.scale == 100 and min(values) >= 0 and max(values) <= 1


@dataclass(frozen=True, slots=True)
class Slice:
    """The units of one label under one metric; `group` and `label` are empty for all of them."""

    metric: Mean
    group: str
    label: str
    units: Sequence[UnitScore]


def slices_of(
    records: Sequence[Record], metric: Mean, metrics: Sequence[Mean], tables: Sequence[str], unit: Unit
) -> list[Slice]:
    """All units first, then those of each label of each table. A macro average that has a plain mean of the same
    value among `metrics` gets no slices: they would equal the plain mean's."""
    if metric.where:
        group, label = metric.where
        records = [record for record in records if label in record.groups.get(group, ())]
    units = (metric.unit or unit).reduce(records, metric.value)
    slices = [Slice(metric, "", "", units)]
    if metric.over is None or replace(metric, name="", over=None) not in [replace(m, name="") for m in metrics]:
        slices += [Slice(metric, table, label, part) for table in tables for label, part in by_label(units, table)]
    return slices


def by_label(units: Sequence[UnitScore], group: str) -> list[tuple[str, list[UnitScore]]]:
    """The units under each label of a group, in natural order. A unit may be under several, or none."""
    labels: dict[str, list[UnitScore]] = {}
    for unit in units:
        for label in unit.groups.get(group, ()):
            labels.setdefault(label, []).append(unit)
    return sorted(labels.items(), key=lambda item: _natural(item[0]))


def _natural(label: str) -> tuple[float, str]:
    """Sort key: labels that are numbers (15, 60, 600, 3600 s) by value, before the others."""
    try:
        return float(label), ""
    except ValueError:
        return math.inf, label


def averaged(units: Sequence[UnitScore], metric: Mean) -> list[list[UnitScore]]:
    """The lists of units whose means the metric averages: one list of all units, or one for each label of `over`.
    Units without a value, and empty lists, are left out."""
    scored = [unit for unit in units if unit.value is not None]
    if metric.over is None:
        return [scored] if scored else []
    return [part for _, part in by_label(scored, metric.over)]


def values_of(parts: Sequence[Sequence[UnitScore]]) -> list[list[float]]:
    """The values of `averaged` units, in the same shape."""
    return [[unit.value for unit in part if unit.value is not None] for part in parts]


def mean_of(values: Sequence[Sequence[float]], metric: Mean) -> float | None:
    """The mean of the means of lists that are not empty, in the metric's scale; None without a list."""
    means = [math.fsum(part) / len(part) for part in values]
    return metric.scale * math.fsum(means) / len(means) if means else None


def estimate_of(parts: Sequence[Sequence[UnitScore]], values: Sequence[Sequence[float]]) -> Estimate:
    """The same mean without the scale, with its standard error over clusters. `values` has the shape of `parts` and at
    least one value: those of the units, or their changes from one run to another."""
    numbers: dict[str, int] = {}
    clusters = [numbers.setdefault(unit.cluster, len(numbers)) for part in parts for unit in part]
    labels = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return clustered_mean([value for part in values for value in part], clusters, labels)


class Row(Protocol):
    """What `few_videos` reads of a row of scores or of differences."""

    @property
    def metric(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def n(self) -> int: ...
    @property
    def clusters(self) -> int: ...


def few_videos(rows: Sequence[Row], named: int = 6) -> list[str]:
    """One note on the rows with too few videos for an interval that can be relied on, the first `named` by name; empty
    where there are none."""
    few = [row for row in rows if row.n and row.clusters < FEW_CLUSTERS]
    if not few:
        return []
    names = [f"{row.label or row.metric} ({row.clusters})" for row in few[:named]]
    return [
        f"{len(few)} of {len(rows)} scores are based on fewer than {FEW_CLUSTERS} videos, so that their 95% intervals "
        f"and p-values are approximate (on one video there are none): {', '.join(names)}"
        f"{', …' if len(few) > named else ''}"
    ]
