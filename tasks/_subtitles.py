"""SubRip subtitles as the evaluation codes of Video-MME read them, and those spoken while a frame was taken.

Source: github.com/EvolvingLMMs-Lab/lmms-eval, tasks/videomme/utils.py.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
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
    """One subtitle, from `start_s` to `end_s`: its rows joined by blanks, with their tags."""

    start_s: float
    end_s: float
    text: str


@lru_cache(maxsize=16)
def read_srt(path: Path) -> tuple[Line, ...]:
    """The lines in the file's order. Of several with the same start and end only the last text is kept, as published.
    Raises SampleError (missing or damaged)."""
    found: dict[tuple[float, float], str] = {}
    for number, section in enumerate(_read(path).split("\n\n"), 1):
        rows = section.split("\n")
        if not section.strip() or len(rows) < 3:  # a number and a time without text
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
    """The lines during which a frame of the plan was taken, in the file's order. A line covers the frames from that at
    its start to the one before that at its end."""
    return [line for line, frame in _first_frames(lines, plan) if frame is not None]


def spoken_as_lmms_eval(lines: Iterable[Line], plan: FramePlan) -> list[Line]:
    """The same lines in lmms-eval's order. It collects the numbers of the lines frame by frame and joins them in the
    order of a Python set, which is that of CPython's hash table: ascending except where a number exceeds the table."""
    numbered = list(enumerate(_first_frames(lines, plan)))
    found = sorted((frame, number) for number, (_, frame) in numbered if frame is not None)
    return [numbered[number][1][0] for number in set([number for _, number in found])]  # noqa: C403 (as the original)


def _first_frames(lines: Iterable[Line], plan: FramePlan) -> Iterator[tuple[Line, int | None]]:
    """Each line with the place in the plan of its first frame; None if it has none."""
    taken = sorted(plan.indices)
    for line in lines:
        first, last = int(line.start_s * plan.native_fps), int(line.end_s * plan.native_fps)
        place = bisect_left(taken, first)
        yield line, place if place < len(taken) and taken[place] < last else None


def in_font(text: str) -> str | None:
    """The text in the font tag of Video-MME's files; None if there is no such tag, then the line is left out."""
    match = _FONT.search(text)
    return match[1] if match else None


def untagged(text: str) -> str:
    return _TAG.sub("", text)


def font_rows(path: Path) -> list[str]:
    """The texts in the font tags of the whole file, at most one for each row. Raises SampleError."""
    texts = (in_font(row) for row in _read(path).split("\n"))
    return [text for text in texts if text is not None]
