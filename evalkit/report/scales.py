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


def linear(values: Sequence[float], start: float, end: float) -> Scale:
    """Around the values, with a margin; round ticks inside."""
    low, high = min(values), max(values)
    margin = 0.07 * (high - low) or 0.05 * (abs(high) or 1.0)
    low, high = low - margin, high + margin
    step = _round_step((high - low) / 5)
    first = math.ceil(low / step)
    ticks = tuple(round(i * step, 10) for i in range(first, math.floor(high / step) + 1))
    return Scale(low, high, start, end, ticks)


def logarithmic(values: Sequence[float], start: float, end: float) -> Scale:
    """Around the values, with a margin. Ticks at powers of two (as settings are often chosen) for what
    spans less than three decades; else at powers of ten."""
    margin = max((max(values) / min(values)) ** 0.08, 1.15)
    low, high = min(values) / margin, max(values) * margin
    base = 2 if high / low < 1000 else 10
    exponents = range(math.ceil(math.log(low, base)), math.floor(math.log(high, base)) + 1)
    ticks = tuple(float(base**e) for e in exponents)
    if len(ticks) > 6:
        ticks = ticks[:: math.ceil(len(ticks) / 6)]
    if len(ticks) < 2:  # one number says nothing of a logarithmic axis
        ticks = tuple(sorted({min(values), max(values)}))
    return Scale(low, high, start, end, ticks, log=True)


def _round_step(step: float) -> float:
    """1, 2 or 5 times a power of ten, at least `step`."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= step * 0.999)
