"""From values to pixels, and the round numbers that stand at an axis."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """`low` to `high` onto the pixels `start` to `end`, linear or logarithmic. `ticks` are values inside."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)


def linear(values: Sequence[float], start: float, end: float, within: tuple[float, float] = (-math.inf, math.inf)) -> Scale:
    """Around the values, widened to round ticks, but never beyond `within`."""
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - (abs(low) or 1) * 0.05, high + (abs(high) or 1) * 0.05
    step = _round_step((high - low) / 4)
    low, high = max(math.floor(low / step) * step, within[0]), min(math.ceil(high / step) * step, within[1])
    count = round((high - low) / step)
    return Scale(low, high, start, end, tuple(round(low + i * step, 10) for i in range(count + 1)))


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """Around the values, with a margin. Ticks at powers of two where those are what was set (frames, compression), as
    for anything that spans less than three decades; else at powers of ten."""
    margin = max((max(values) / min(values)) ** 0.08, 1.15)
    low, high = min(values) / margin, max(values) * margin
    base = 2 if high / low < 1000 else 10
    exponents = range(math.ceil(math.log(low, base)), math.floor(math.log(high, base)) + 1)
    ticks = tuple(float(base**e) for e in exponents)
    if len(ticks) > 6:
        ticks = ticks[:: math.ceil(len(ticks) / 6)]
    return Scale(low, high, start, end, ticks or tuple(sorted({min(values), max(values)})), log=True)


def _round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999)
