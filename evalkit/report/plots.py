"""Which figures a board has: for each column the score against what it costs and against each setting that varies, its
slices, and the needle grid where there is one. Runs that were limited on purpose are not drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit.scoring.summary import Metric
from evalkit.text import natural_key
from evalkit.types import Record

from . import numbers
from .board import Board, Cell, Column
from .figures import Bar, Figure, Point, heatmap, pareto, scatter, slices

MOST_BARS = 6
"""Runs in a figure of slices; more cannot be told apart. All are in scores.csv."""

MOST_LABELS = 24
"""Labels in a figure of slices; groups with more (each cell of a needle grid, say) are in scores.csv alone."""

NEEDLE = ("frames", "depth")
"""The groups of a question that make a needle grid."""


@dataclass(frozen=True)
class ColumnFigures:
    cost: list[Figure]
    slices: list[Figure]
    needles: list[Figure]

    def all(self) -> list[Figure]:
        return [*self.cost, *self.slices, *self.needles]


@dataclass(frozen=True)
class _Quantity:
    """What stands on the horizontal axis of a figure. `key` and `section`: the setting that it is, and the mechanism
    that the setting belongs to (see `evalkit.model.Axis`); empty for what was measured, which gets a Pareto front."""

    name: str
    title: str
    label: str
    unit: str
    value: Callable[[Cell], float | None]
    key: str = ""
    section: str = ""


def _measured(name: str) -> Callable[[Cell], float | None]:
    return lambda cell: cell.entry.efficiency.get(name)


def _set_to(key: str) -> Callable[[Cell], float | None]:
    return lambda cell: next((axis["value"] for axis in cell.entry.axes if axis["key"] == key), None)


_FRONT = "The line is the Pareto front of the scores as measured; whiskers are 95% intervals."
_JOINED = "Joined points differ in nothing else; whiskers are 95% intervals."
_COSTS = (
    _Quantity("kv", "Score against KV cache", "KV cache used for a question", "bytes", _measured("kv_bytes_used")),
    _Quantity(
        "ttft",
        "Score against time to first token",
        "time to first token, first question of a video",
        "seconds",
        _measured("ttft_first_s"),
    ),
)


def column_figures(board: Board, column: Column) -> ColumnFigures:
    cells = [c for c in board.of(column) if c.entry.scores.headline.value is not None and c.entry.limit is None]
    quantities = [*_COSTS, *_settings(cells)]
    cost = [figure for quantity in quantities if (figure := _against(quantity, column, cells))]
    return ColumnFigures(cost, _slices(column, cells), _needles(column, cells))


def _settings(cells: Sequence[Cell]) -> list[_Quantity]:
    """The settings that models declare as axes, each once."""
    axes = {axis["key"]: axis for cell in cells for axis in cell.entry.axes}
    return [
        _Quantity(
            _file(key),
            f"Score against {axis['label']}",
            axis["label"],
            axis["unit"],
            _set_to(key),
            key,
            axis["section"],
        )
        for key, axis in axes.items()
    ]


def _against(quantity: _Quantity, column: Column, cells: Sequence[Cell]) -> Figure | None:
    """None unless at least two runs differ in this quantity."""
    values = [(cell, value) for cell in cells if (value := quantity.value(cell)) is not None]
    if len({value for _, value in values}) < 2:
        return None
    series = _series(quantity, [cell for cell, _ in values])
    points = [_point(cell, value, own) for (cell, value), own in zip(values, series, strict=True)]
    front = not quantity.key
    note = f"{_FRONT} On it: {', '.join(point.letter for point in pareto(points))}." if front else _JOINED
    title = f"{quantity.title}, {_where(column)}"
    name = f"{column.id}-{quantity.name}"
    return scatter(name, title, note, points, quantity.label, quantity.unit, column.metric, front)


def _point(cell: Cell, value: float, series: tuple[str, ...]) -> Point:
    headline = cell.entry.scores.headline
    assert headline.value is not None
    words = _in_words(cell, headline)
    return Point(cell.row.letter, value, headline.value, headline.low, headline.high, words, series)


def _series(quantity: _Quantity, cells: Sequence[Cell]) -> list[tuple[str, ...]]:
    """For each run the lines that it is a point of: runs of a line differ in nothing but the quantity. A run whose
    mechanism is off has none of its other settings, and is a point of every line that it fits otherwise."""
    inside = f"{quantity.section}."
    switch = f"{inside}enabled"
    keys = []
    for cell in cells:
        settings = {k: v for k, v in cell.row.settings.items() if k not in (quantity.key, switch)}
        others = {k: v for k, v in settings.items() if not (quantity.section and k.startswith(inside))}
        keys.append(
            (_text(others), _text(settings), bool(quantity.section) and not cell.row.settings.get(switch, True))
        )
    lines = {(others, whole): None for others, whole, off in keys if not off}
    return [tuple(line for rest, line in lines if rest == others) if off else (whole,) for others, whole, off in keys]


def _text(settings: Mapping[str, Any]) -> str:
    return repr(sorted(settings.items(), key=repr))


def _in_words(cell: Cell, row: Metric) -> str:
    """A number in words, for a pointer that rests on it."""
    label = f" {row.label}:" if row.label else ""
    ends = f"[{numbers.interval(row.low, row.high)}], n {row.n}"
    return f"{cell.row.letter}: {cell.row.title}.{label} {numbers.score(row.value)} {ends}"


def _slices(column: Column, cells: Sequence[Cell]) -> list[Figure]:
    shown = cells[:MOST_BARS]
    groups = dict.fromkeys(row.group for cell in shown for row in cell.entry.scores.rows if row.group)
    rest = f" The first {MOST_BARS} of {len(cells)} runs; all are in scores.csv." if len(cells) > MOST_BARS else ""
    figures = []
    for group in groups:
        metric = next(r.metric for cell in shown for r in cell.entry.scores.rows if r.group == group)
        labels = _bars(shown, metric, group)
        if 0 < len(labels) <= MOST_LABELS:
            note = f"{metric} with 95% intervals.{rest} Many are compared at once: take what differs as a hypothesis."
            title = f"By {group}, {_where(column)}"
            figures.append(slices(f"{column.id}-by-{_file(group)}", title, note, list(labels.items()), metric))
    return figures


def _bars(cells: Sequence[Cell], metric: str, group: str) -> dict[str, list[Bar]]:
    """Label -> one bar a run."""
    labels: dict[str, list[Bar]] = {}
    for cell in cells:
        for row in cell.entry.scores.rows:
            if (row.metric, row.group) == (metric, group) and row.value is not None:
                bar = Bar(cell.row.letter, row.value, row.low, row.high, row.n, _in_words(cell, row))
                labels.setdefault(row.label, []).append(bar)
    return labels


def _needles(column: Column, cells: Sequence[Cell]) -> list[Figure]:
    figures = []
    for cell in cells:
        metrics = {row.group for row in cell.entry.scores.rows}
        if not set(NEEDLE) <= metrics:
            continue
        grid, columns, rows = needle_grid(cell.entry.records())
        title = f"Needle by frames and depth, {cell.row.letter}: {cell.row.title}"
        note = "Mean score of the questions of a cell, 0 to 100."
        figures.append(heatmap(f"{column.id}-needle-{cell.row.letter.lower()}", title, note, columns, rows, grid))
    return figures


def needle_grid(records: Sequence[Record]) -> tuple[dict[tuple[str, str], tuple[float, int]], list[str], list[str]]:
    """(depth, frames) -> (mean score, n), with the labels of columns (frames) and rows (depth) in their order."""
    values: dict[tuple[str, str], list[float]] = {}
    for record in records:
        for frames in record.groups.get(NEEDLE[0], ()):
            for depth in record.groups.get(NEEDLE[1], ()):
                values.setdefault((depth, frames), []).append(100 * (record.score or 0.0))
    grid = {place: (sum(scores) / len(scores), len(scores)) for place, scores in values.items()}
    return grid, sorted({f for _, f in grid}, key=natural_key), sorted({d for d, _ in grid}, key=natural_key)


def _where(column: Column) -> str:
    return f"{column.benchmark} {column.split} ({', '.join((column.protocol, *column.words))})"


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).lower()
