"""Where in a video a model looked: its frames along the time axis, and the chunks that stayed dense for a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from evalkit.model import FrameSpan
from evalkit.types import Prefill

from .numbers import clock

WIDTH = 960


@dataclass(frozen=True)
class Timeline:
    """`ticks`: the positions of the frames in tenths of a pixel, each once and as the distance from the one before.
    `labels`: (position, time) of the axis."""

    frames: int
    length_s: float
    ticks: list[int]
    labels: list[tuple[float, str]]


@dataclass(frozen=True)
class Stretch:
    """Neighbouring spans of one kind: position and width on the time axis. `kind`: dense, pooled or skipped."""

    x: float
    width: float
    kind: str
    title: str


def timeline(prefill: Prefill | None) -> Timeline | None:
    """None for a video that was never opened."""
    plan = prefill.plan if prefill else {}
    if not plan.get("times_s"):
        return None
    times, length = np.asarray(plan["times_s"], float), _length(plan)
    places = np.rint(np.clip(times / length, 0.0, 1.0) * WIDTH * 10).astype(int)
    steps = np.diff(places, prepend=0)
    drawn = steps != 0
    drawn[0] = True
    labels = [(round(WIDTH * i / 6, 1), clock(length * i / 6)) for i in range(7)]
    return Timeline(len(times), length, steps[drawn].tolist(), labels)


def stretches(prefill: Prefill | None, spans: Sequence[FrameSpan]) -> list[Stretch]:
    """The spans of a video as a model describes them, neighbours of one kind joined."""
    plan = prefill.plan if prefill else {}
    if not plan.get("times_s") or not spans:
        return []
    times, length = plan["times_s"], _length(plan)
    found = []
    for kind, run in groupby(spans, key=lambda span: span.kind):
        joined = list(run)
        first, after = joined[0].first, joined[-1].last + 1
        start, end = (float(times[i]) if i < len(times) else length for i in (first, after))
        names = joined[0].label if len(joined) == 1 else f"{joined[0].label} to {joined[-1].label}"
        title = f"{names}, {clock(start)} to {clock(end)}: {kind}"
        x = round(_place(start, length), 1)
        found.append(Stretch(x, round(max(_place(end, length) - x, 1.0), 1), kind, title))
    return found


def picked(plan: Mapping[str, Any], number: int) -> list[int]:
    """Positions of `number` frames evenly among those the model saw, each in the middle of its share."""
    count = len(plan.get("indices") or ())
    number = min(number, count)
    return [int((i + 0.5) * count / number) for i in range(number)]


def _length(plan: Mapping[str, Any]) -> float:
    """Seconds on the axis: to the last frame of the video, or of what was sampled where that is longer."""
    times: Sequence[float] = plan["times_s"]
    fps, count = plan.get("native_fps") or 0.0, plan.get("frame_count") or 0
    return max(count / fps if fps else 0.0, float(times[-1]), 1e-3)


def _place(time_s: float, length: float) -> float:
    return min(max(time_s / length, 0.0), 1.0) * WIDTH
