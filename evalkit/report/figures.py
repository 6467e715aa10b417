"""The figures: geometry here, SVG in `templates/figures.svg.jinja`. The same drawing stands in the page, where it
takes the page's colours, and as a file of its own, which brings them along for light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

from . import numbers
from .render import template
from .scales import Scale, linear, logarithmic

WIDTH, HEIGHT = 400, 280
_PLOT = (46.0, 388.0, 14.0, 232.0)  # left, right, top, bottom of the area inside the axes
_UNITS = {"bytes": numbers.size, "seconds": numbers.seconds, "count": numbers.count, "ratio": "{:g}×".format}


@dataclass(frozen=True)
class Point:
    """A run: its letter, its place, its interval, and the words that a pointer over it shows. `series`: the lines that
    it is a point of."""

    letter: str
    x: float
    y: float
    low: float | None
    high: float | None
    title: str
    series: tuple[str, ...] = ()


@dataclass(frozen=True)
class Bar:
    letter: str
    value: float
    low: float | None
    high: float | None
    n: int
    title: str


@dataclass(frozen=True)
class Figure:
    """A drawing. `name` is its file's, `title` and `note` stand above and below it."""

    name: str
    title: str
    note: str
    kind: str
    width: int
    height: int
    values: dict[str, object] = field(repr=False)

    def svg(self, standalone: bool = False) -> str:
        return template("figures.svg.jinja").render(figure=self, standalone=standalone, **self.values)


def pareto(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats at equal or lower cost, from cheap to dear. The front is of the scores as
    measured: their intervals say how much of it is sure."""
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, -p.y)):
        if not front or point.y > front[-1].y:
            front.append(point)
    return front


def scatter(
    name: str,
    title: str,
    note: str,
    points: Sequence[Point],
    x_label: str,
    unit: str,
    y_label: str,
    front: bool = False,
) -> Figure:
    """Score against one quantity, on a logarithmic axis unless it can be 0. `front` draws the Pareto front, else series
    are joined."""
    left, right, top, bottom = _PLOT
    scale = logarithmic if min(p.x for p in points) > 0 else linear
    x = scale([p.x for p in points], left, right)
    ends = [end for p in points for end in (p.y, p.low, p.high) if end is not None]
    y = linear(ends, bottom, top)
    best = pareto(points) if front else []
    spots = [(x(p.x), y(p.y)) for p in points]
    labels = _label_places(spots)
    values: dict[str, object] = {
        "x": x, "y": y, "plot": _PLOT, "x_label": x_label, "y_label": y_label, "tick": _UNITS.get(unit, numbers.count),
        "front": _steps([(x(p.x), y(p.y)) for p in best], right),
        "lines": [] if front else _series(points, spots),
        "marks": [
            {"point": p, "spot": spot, "label": label, "on_front": p in best or not front,
             "low": y(p.low) if p.low is not None else None, "high": y(p.high) if p.high is not None else None}
            for p, spot, label in zip(points, spots, labels, strict=True)
        ],
    }  # fmt: skip
    return Figure(name, title, note, "scatter", WIDTH, HEIGHT, values)


def _steps(spots: Sequence[tuple[float, float]], right: float) -> str:
    """A front as a staircase: what a budget buys until the next point comes into reach."""
    if not spots:
        return ""
    path = [f"M{spots[0][0]},{spots[0][1]}"]
    path += [f"H{x}V{y}" for x, y in spots[1:]]
    return "".join([*path, f"H{right}"])


def _series(points: Sequence[Point], spots: Sequence[tuple[float, float]]) -> list[str]:
    series: dict[str, list[tuple[float, float]]] = {}
    for point, spot in zip(points, spots, strict=True):
        for line in point.series:
            series.setdefault(line, []).append(spot)
    return [" ".join(f"{x},{y}" for x, y in sorted(places)) for places in series.values() if len(places) > 1]


def _label_places(spots: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where each point's letter stands: the nearest free place around it, right first."""
    offsets = [
        (d * dx, d * dy)
        for d in (12, 20, 28)
        for dx, dy in ((1, 0), (0.8, -0.8), (0.8, 0.8), (-1, 0), (-0.8, -0.8), (-0.8, 0.8))
    ]
    taken = [(x, y, 5.0) for x, y in spots]
    places = []
    for x, y in spots:
        free = [(x + dx, y + dy) for dx, dy in offsets if all(_apart(x + dx, y + dy, other) for other in taken)]
        place = free[0] if free else (x + offsets[0][0], y)
        taken.append((*place, 6.0))
        places.append((round(place[0], 1), round(place[1], 1)))
    return places


def _apart(x: float, y: float, other: tuple[float, float, float]) -> bool:
    return abs(x - other[0]) > 5 + other[2] or abs(y - other[1]) > 6 + other[2]


def slices(name: str, title: str, note: str, groups: Sequence[tuple[str, Sequence[Bar]]], metric: str) -> Figure:
    """Bars with intervals: for each label of a slice one bar a run."""
    ends = [end for _, bars in groups for bar in bars for end in (bar.value, bar.high or bar.value)]
    top = 100.0 if max(ends) <= 100 else max(ends)
    x = Scale(0.0, top, 26.0, 346.0, tuple(top * i / 4 for i in range(5)))
    y, rows = 8.0, []
    for label, bars in groups:
        rows.append({"label": label, "y": y + 12, "n": sorted({bar.n for bar in bars})})
        placed = [{"bar": bar, "y": round(y + 19 + 15 * i, 1)} for i, bar in enumerate(bars)]
        rows[-1]["bars"] = placed
        y += 19 + 15 * len(bars) + 11
    return Figure(
        name, title, note, "slices", WIDTH, int(y + 22), {"x": x, "rows": rows, "bottom": y, "metric": metric}
    )


def heatmap(
    name: str,
    title: str,
    note: str,
    columns: Sequence[str],
    rows: Sequence[str],
    cells: dict[tuple[str, str], tuple[float, int]],
) -> Figure:
    """Depth by length: (row, column) -> (score, n). Cells that were not asked stay empty."""
    left, top = 52.0, 12.0
    width, height = (WIDTH - left - 8) / len(columns), min(34.0, 220 / len(rows))
    drawn = []
    for (i, column), (j, row) in product(enumerate(columns), enumerate(rows)):
        value, n = cells.get((row, column), (None, 0))
        place = {"x": round(left + i * width, 1), "y": round(top + j * height, 1)}
        drawn.append({**place, "value": value, "n": n, "row": row, "column": column})
    bottom = top + height * len(rows)
    every = max(1, -(-max(map(len, columns)) * 8 // int(width)))  # labels are about 7 pixels a character
    values: dict[str, object] = {
        "cells": drawn, "cell": (round(width, 1), round(height, 1)), "left": left, "bottom": bottom,
        "columns": [(c, round(left + (i + 0.5) * width, 1)) for i, c in enumerate(columns) if i % every == 0],
        "rows": [(r, round(top + (j + 0.5) * height, 1)) for j, r in enumerate(rows)],
    }  # fmt: skip
    return Figure(name, title, note, "heatmap", WIDTH, int(bottom + 40), values)
