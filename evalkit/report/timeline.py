"""Where in a video a model looked: its frames along the time axis, and the chunks that stayed dense for a question."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from evalkit.types import Record

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
    """Neighbouring chunks of one kind: position and width on the time axis."""

    x: float
    width: float
    dense: bool
    title: str


def timeline(record: Record) -> Timeline | None:
    """None for a question whose video was never opened."""
    sampling = record.sampling
    if not sampling or not sampling.get("times_s"):
        return None
    times, length = [float(t) for t in sampling["times_s"]], _length(sampling)
    places = dict.fromkeys(round(_place(t, length), 1) for t in times)
    labels = [(round(WIDTH * i / 6, 1), clock(length * i / 6)) for i in range(7)]
    return Timeline(len(times), length, "".join(f"M{x},0V10" for x in places), labels)


def stretches(record: Record) -> list[Stretch]:
    """The video in stretches of chunks that were dense, or pooled, for this question; empty where that is not known."""
    sampling = record.sampling
    if record.dense_chunks is None or not record.chunk_frames or not sampling or not sampling.get("times_s"):
        return []
    times, length = [float(t) for t in sampling["times_s"]], _length(sampling)
    starts = [*times[:: record.chunk_frames], length]
    count, kept = len(starts) - 1, set(record.dense_chunks)
    found = []
    for dense, run in groupby(range(count), key=kept.__contains__):
        numbers = list(run)
        start, end = starts[numbers[0]], starts[numbers[-1] + 1]
        names = f"chunk {numbers[0]}" if len(numbers) == 1 else f"chunks {numbers[0]} to {numbers[-1]}"
        title = f"{names}, {clock(start)} to {clock(end)}: {'dense' if dense else 'pooled'}"
        x = round(_place(start, length), 1)
        found.append(Stretch(x, round(max(_place(end, length) - x, 1.0), 1), dense, title))
    return found


def picked(sampling: Mapping[str, Any], number: int) -> list[int]:
    """Positions of `number` frames evenly among those the model saw, each in the middle of its share."""
    count = len(sampling.get("indices") or ())
    number = min(number, count)
    return [int((i + 0.5) * count / number) for i in range(number)]


def _length(sampling: Mapping[str, Any]) -> float:
    """Seconds on the axis: to the last frame of the video, or of what was sampled where that is longer."""
    times: Sequence[float] = sampling["times_s"]
    fps, count = sampling.get("native_fps") or 0.0, sampling.get("frame_count") or 0
    return max(count / fps if fps else 0.0, float(times[-1]), 1e-3)


def _place(time_s: float, length: float) -> float:
    return min(max(time_s / length, 0.0), 1.0) * WIDTH
