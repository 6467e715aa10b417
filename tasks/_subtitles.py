"""SubRip subtitles as the evaluation codes of Video-MME read them, and which were spoken while a frame was taken.

Source: github.com/EvolvingLMMs-Lab/lmms-eval, tasks/videomme/utils.py.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from evalkit.errors import SampleError
from evalkit.types import FramePlan

_CLOCK = r"(\d+):(\d+):(\d+)[,.](\d{3})"
_RANGE = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}")
_FONT = re.compile(r'<font color="white" size=".72c">(.*?)</font>')
_TAG = re.compile(r"</?\w[^<>]*>")


class Line(NamedTuple):
    """What is said from `start_s` to `end_s`; the rows of a line joined by blanks, with its tags."""

    start_s: float
    end_s: float
    text: str


@lru_cache(maxsize=16)
def read_srt(path: Path) -> tuple[Line, ...]:
    """The lines in the file's order; of several over the very same time only the last, as published. Raises
    SampleError (missing or damaged)."""
    found: dict[tuple[float, float], str] = {}
    for number, section in enumerate(_read(path).split("\n\n"), 1):
        rows = section.split("\n")
        if not section.strip() or len(rows) < 3:  # a number and a time, and nothing said
            continue
        times = _RANGE.match(rows[1])
        if times is None:
            message = f"the subtitles {path} are damaged (section {number} has {rows[1]!r} for its time)"
            raise SampleError(message, "damaged")
        clock = [int(part) for part in times.groups()]
        found[_seconds(clock[:4]), _seconds(clock[4:])] = " ".join(rows[2:])
    return tuple(Line(start, end, text) for (start, end), text in found.items())


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SampleError(f"the subtitles {path} cannot be read ({error.strerror})", "missing") from None
    except UnicodeDecodeError as error:
        raise SampleError(f"the subtitles {path} are damaged ({error})", "damaged") from None


def _seconds(clock: Sequence[int]) -> float:
    hours, minutes, seconds, milliseconds = clock
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def spoken(lines: Iterable[Line], plan: FramePlan) -> list[Line]:
    """The lines during which at least one of the frames was taken: whose frames, from the first to before the last,
    have one of the plan's indices."""
    taken = sorted(plan.indices)

    def during(line: Line) -> bool:
        first, last = int(line.start_s * plan.native_fps), int(line.end_s * plan.native_fps)
        place = bisect_left(taken, first)
        return place < len(taken) and taken[place] < last

    return [line for line in lines if during(line)]


def in_font(text: str) -> str | None:
    """What stands in the font tag of Video-MME's files; None where there is none, and the line is left out."""
    match = _FONT.search(text)
    return match[1] if match else None


def untagged(text: str) -> str:
    return _TAG.sub("", text)


def font_rows(path: Path) -> list[str]:
    """What stands in the font tags of the whole file, one a row, whatever its time. Raises SampleError."""
    texts = (in_font(row) for row in _read(path).split("\n"))
    return [text for text in texts if text is not None]
