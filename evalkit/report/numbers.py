"""Numbers for a reader; a dash where there is none."""

from __future__ import annotations

import math

from evalkit import text

DASH = "–"


def score(value: float | None) -> str:
    """One decimal: more would claim what no interval supports."""
    return DASH if value is None else f"{value:.1f}"


def interval(low: float | None, high: float | None) -> str:
    return DASH if low is None or high is None else f"{low:.1f} to {high:.1f}"


def count(value: float | None) -> str:
    return DASH if value is None else f"{value:,.0f}"


def percent(share: float | None) -> str:
    """Rounded down, so that 99.97 % never reads as all."""
    return DASH if share is None else f"{math.floor(share * 1000) / 10:.1f}%" if share < 1 else "100%"


def seconds(value: float | None) -> str:
    if value is None:
        return DASH
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 100 else f"{value:,.0f} s"


def size(value: float | None) -> str:
    return DASH if value is None else text.size(value)


def flops(value: float | None) -> str:
    if value is None:
        return DASH
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G")):
        if value >= 10**power:
            return f"{value / 10**power:.3g} {prefix}FLOP"
    return f"{value:.3g} FLOP"


def clock(value: float) -> str:
    """Seconds of a video as m:ss or h:mm:ss."""
    whole = int(value)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
