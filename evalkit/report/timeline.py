"""Where in a video a model looked: its frames along the time axis, and the chunks that stayed dense for a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from evalkit.model import FrameSpan
from evalkit.types import Prefill

from .numbers import clock

WIDTH = 960


@dataclass(frozen=True)
class Timeline:
    """`ticks`: an SVG path with one stroke a frame. `labels`: (position, time) of the axis."""

    frames: int
    length_s: float
    ticks: str
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
    times, length = [float(t) for t in plan["times_s"]], _length(plan)
    places = dict.fromkeys(round(_place(t, length), 1) for t in times)
    labels = [(round(WIDTH * i / 6, 1), clock(length * i / 6)) for i in range(7)]
    return Timeline(len(times), length, "".join(f"M{x},0V10" for x in places), labels)


def stretches(prefill: Prefill | None, spans: Sequence[FrameSpan]) -> list[Stretch]:
    """The spans of a video as a model describes them, neighbours of one kind joined."""
    plan = prefill.plan if prefill else {}
    if not plan.get("times_s") or not spans:
        return []
    times, length = [float(t) for t in plan["times_s"]], _length(plan)
    ends = [*times, length]
    found = []
    for kind, run in groupby(spans, key=lambda span: span.kind):
        joined = list(run)
        start, end = ends[min(joined[0].first, len(times))], ends[min(joined[-1].last + 1, len(times))]
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
