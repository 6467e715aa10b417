"""Which figures a board has: for each column what accuracy costs, how it moves with frames and compression, its
slices, and the needle grid where there is one. Runs that were limited on purpose are not drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evalkit.scoring.summary import Metric
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
class _Axis:
    """A quantity on the horizontal axis. `setting` ends the keys of the settings that it shows, for joining points."""

    name: str
    title: str
    label: str
    unit: str
    value: Callable[[Cell], float | None]
    note: str
    front: bool = False
    setting: str = ""


def compression(cell: Cell) -> float | None:
    """The compression ratio the model was set to; 1 where it has such a setting and it is off."""
    found = [value for key, value in cell.row.settings.items() if key.rpartition(".")[2] == "compression"]
    return None if not found else float(found[0] or 1)


def _measured(key: str) -> Callable[[Cell], float | None]:
    return lambda cell: cell.entry.efficiency.get(key)


_FRONT = "The line is the Pareto front of the scores as measured; whiskers are 95% intervals."
_JOINED = "Joined points differ in nothing else; whiskers are 95% intervals."
_AXES = (
    _Axis(
        "kv", "Score against KV cache", "KV cache used for a question", "bytes", _measured("kv_bytes_used"), _FRONT,
        front=True,
    ),
    _Axis(
        "ttft", "Score against time to first token", "time to first token, first question of a video", "seconds",
        _measured("ttft_first_s"), _FRONT, front=True,
    ),
    _Axis(
        "frames", "Score against frames", "frames of a video, mean", "count", _measured("frames"), _JOINED,
        setting="frames.max",
    ),
    _Axis(
        "compression", "Score against compression", "compression ratio", "ratio", compression, _JOINED,
        setting="compression",
    ),
)  # fmt: skip


def column_figures(board: Board, column: Column) -> ColumnFigures:
    cells = [c for c in board.of(column) if c.entry.scores.headline.value is not None and c.entry.limit is None]
    cost = [figure for axis in _AXES if (figure := _against(axis, column, cells))]
    return ColumnFigures(cost, _slices(column, cells), _needles(column, cells))


def _against(axis: _Axis, column: Column, cells: Sequence[Cell]) -> Figure | None:
    """None unless at least two runs differ in this quantity."""
    values = [(cell, value) for cell in cells if (value := axis.value(cell))]
    if len({value for _, value in values}) < 2:
        return None
    points = [_point(axis, cell, value) for cell, value in values]
    note = axis.note
    if axis.front:
        note = f"{note} On it: {', '.join(point.letter for point in pareto(points))}."
    title = f"{axis.title}, {_where(column)}"
    return scatter(f"{column.id}-{axis.name}", title, note, points, axis.label, axis.unit, column.metric, axis.front)


def _point(axis: _Axis, cell: Cell, value: float) -> Point:
    headline = cell.entry.scores.headline
    assert headline.value is not None
    return Point(
        cell.row.letter, value, headline.value, headline.low, headline.high, _told(cell, headline), _series(axis, cell)
    )


def _series(axis: _Axis, cell: Cell) -> str:
    """What two points have in common that differ in nothing but what is on the axis."""
    others = {k: v for k, v in cell.row.settings.items() if not (axis.setting and k.endswith(axis.setting))}
    if axis.setting == "compression":  # at ratio 1 the mechanism is off, and has no other settings
        sections = {k.rpartition(".")[0] for k in cell.row.settings if k.endswith(".compression")}
        others = {k: v for k, v in others.items() if not any(k.startswith(f"{section}.") for section in sections)}
    return repr(sorted(others.items(), key=repr))


def _told(cell: Cell, row: Metric) -> str:
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
                bar = Bar(cell.row.letter, row.value, row.low, row.high, row.n, _told(cell, row))
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
    return grid, sorted({f for _, f in grid}, key=_natural), sorted({d for d, _ in grid}, key=_natural)


def _natural(label: str) -> tuple[float, str]:
    number = "".join(c for c in label if c.isdigit() or c == ".")
    return (float(number) if number.replace(".", "", 1).isdigit() else float("inf"), label)


def _where(column: Column) -> str:
    return f"{column.benchmark} {column.split} ({', '.join((column.protocol, *column.words))})"


def _file(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name).lower()
