"""What is averaged: metrics, and the slices of the questions that they are shown for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from evalkit.scoring.units import Unit, UnitScore
from evalkit.stats.bootstrap import Cells
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
    value among `metrics` is not sliced: its slices would repeat that one's."""
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
    """Labels that are numbers (15, 60, 600, 3600 s) in their order, before the others in theirs."""
    try:
        return float(label), ""
    except ValueError:
        return math.inf, label


def averaged(units: Sequence[UnitScore], metric: Mean) -> list[list[UnitScore]]:
    """The cells that the metric averages: all scored units, or those of each label of the group it runs over."""
    scored = [unit for unit in units if unit.value is not None]
    if metric.over is None:
        return [scored]
    return [part for _, part in by_label(scored, metric.over)]


def mean_of(units: Sequence[UnitScore], metric: Mean) -> float | None:
    cells = [[u.value for u in cell if u.value is not None] for cell in averaged(units, metric)]
    means = [math.fsum(cell) / len(cell) for cell in cells if cell]
    return metric.scale * math.fsum(means) / len(means) if means else None


def cells_of(part: Slice, clusters: Mapping[str, int]) -> Cells:
    """The same mean as sums over clusters, for resampling; without the scale."""
    cells = averaged(part.units, part.metric)
    flat = [unit for cell in cells for unit in cell]
    values = np.array([unit.value for unit in flat], dtype=np.float64)
    ends = np.cumsum([0, *map(len, cells)])
    members = [list(range(start, end)) for start, end in pairwise(ends)]
    return Cells.gather(values, [clusters[unit.cluster] for unit in flat], len(clusters), [members])
