"""LongVideoBench's subtitles: two file formats, and the place of each line between the frames.

Source: github.com/longvideobench/LongVideoBench, longvideobench_dataset.py.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from evalkit.errors import SampleError
from evalkit.types import Cue

SHORTEST_S = 1.0
"""A shorter line is widened to half a second before and after its middle."""


class Line(NamedTuple):
    """Times in seconds from the start of the video; negative before it."""

    start_s: float
    end_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Subtitles:
    """A video's subtitle file. Its times count from the start of a longer video, in which this one starts at
    `offset_s`."""

    path: Path
    offset_s: float
    duration_s: float


@lru_cache(maxsize=16)
def read_lines(subtitles: Subtitles) -> tuple[Line, ...]:
    """The lines in the file's order. Raises SampleError (missing or damaged)."""
    try:
        rows = json.loads(subtitles.path.read_text(encoding="utf-8-sig"))
        return tuple(_line(row, subtitles) for row in rows)
    except OSError as error:
        raise SampleError(f"the subtitles {subtitles.path} cannot be read ({error.strerror})", "missing") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"the subtitles {subtitles.path} are damaged ({type(error).__name__}: {error})"
        raise SampleError(message, "damaged") from None


def _line(row: dict[str, Any], subtitles: Subtitles) -> Line:
    if "timestamp" in row:
        start, end = row["timestamp"]
        if not isinstance(end, float):  # as the original: a missing or whole-number end is the end of the video
            end = subtitles.duration_s
        text = row["text"]
    else:
        start, end, text = _seconds(row["start"]), _seconds(row["end"]), row["line"]
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no text")
    return Line(float(start) - subtitles.offset_s, float(end) - subtitles.offset_s, text)


def _seconds(clock: str) -> float:
    """Seconds of `HH:MM:SS.mmm`."""
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def interleave(lines: Iterable[Line], times_s: Sequence[float]) -> tuple[Cue, ...]:
    """The lines during which a frame was taken, each after the frames up to its middle. `times_s` must ascend."""
    cues: list[Cue] = []
    at = 0
    for start, end, text in lines:
        middle = (start + end) / 2
        at = max(at, bisect_right(times_s, middle))
        if end - start < SHORTEST_S:
            start, end = middle - SHORTEST_S / 2, middle + SHORTEST_S / 2
        inside = bisect_right(times_s, start)
        if inside < len(times_s) and times_s[inside] < end:
            cues.append(Cue(at, text))
    return tuple(cues)


def spread(duration_s: float, most: int) -> list[float]:
    """One time for each second, or `most` times at equal distances in longer videos (lmms-eval, VideoChat-Flash)."""
    if duration_s > most:
        return [duration_s / most * i for i in range(most)]
    return [float(second) for second in range(int(duration_s))]
