"""evalkit's tolerant rule for a time span.

It finds all times (`12.5`, `12.5s`, `0:12`, `1:02:03`, `1 min 5 s`), then takes the first two of these forms: joined by
"-", "to" or "until"; "between a and b" or "[a, b]"; one named as start and one as end; the only two times.
"""

from __future__ import annotations

import re
from itertools import islice, pairwise
from typing import NamedTuple

_TIME = re.compile(
    r"(?<![\d.:])(?:(?P<clock>\d{1,3}:\d{2}(?::\d{2})?(?:\.\d+)?)(?![\d:])|(?P<number>\d+(?:\.\d+)?))"
    r"(?:\s?(?P<unit>minutes|minute|mins|min|m|seconds|second|secs|sec|s)(?![a-z]))?",
    re.IGNORECASE,
)
_MAX_GLUE = 40  # characters between two times of one span
_MAX_TIMES = 1000  # times that are read of a reply, to bound the work
_RANGE = re.compile(r"\W*(?:[-–—−~→]|\bto\b|\buntil\b|\btill\b|\bthrough\b)\W*")
_AND = re.compile(r"[\s\"'*]*(?:,|\band\b|&)[\s\"'*]*")
_START = re.compile(r"\b(?:start|begin|from|onset)")
_END = re.compile(r"\b(?:end|finish|stop|until|conclu)")


class _Time(NamedTuple):
    seconds: float
    start: int
    stop: int
    unit: str  # "", "s", "m" or ":"


def tolerant_span(reply: str) -> tuple[tuple[float, float], str] | None:
    text = reply.lower()
    times = _times(text)
    pairs = [(a, b, text[a.stop : b.start]) for a, b in pairwise(times)]
    pairs = [(a, b, glue) for a, b, glue in pairs if len(glue) <= _MAX_GLUE]
    for a, b, glue in pairs:
        if _RANGE.fullmatch(glue):
            return (a.seconds, b.seconds), "range"
    for a, b, glue in pairs:
        if _AND.fullmatch(glue) and (_opens(text, a) or "between" in text[max(0, a.start - 20) : a.start]):
            return (a.seconds, b.seconds), "between"
    start, end = _named(text, times, _START), _named(text, times, _END)
    if start and end and start is not end:
        return (start.seconds, end.seconds), "named start and end"
    for some, rule in ((times, "only two times"), ([t for t in times if t.unit], "only two times with a unit")):
        if len(some) == 2:
            return (some[0].seconds, some[1].seconds), rule
    return None


def _times(text: str) -> list[_Time]:
    times: list[_Time] = []
    for match in islice(_TIME.finditer(text), _MAX_TIMES):
        unit = ":" if match["clock"] else (match["unit"] or "")[:1]
        time = _Time(_seconds(match["clock"] or match["number"], unit), match.start(), match.end(), unit)
        if times and times[-1].unit == "m" and unit == "s" and text[times[-1].stop : time.start] in (" ", "", " and "):
            minutes = times.pop()
            time = _Time(minutes.seconds + time.seconds, minutes.start, time.stop, "s")
        times.append(time)
    return times


def _seconds(digits: str, unit: str) -> float:
    parts = digits.split(":")
    return sum(float(part) * 60**power for power, part in enumerate(reversed(parts))) * (60 if unit == "m" else 1)


def _opens(text: str, time: _Time) -> bool:
    """A bracket stands before the time: `[3.2, 8.9]`."""
    return text[max(0, time.start - 2) : time.start].rstrip()[-1:] in tuple("[(<{")


def _named(text: str, times: list[_Time], name: re.Pattern[str]) -> _Time | None:
    """The first time that has the name within `_MAX_GLUE` characters before it and no other time between."""
    previous = 0
    for time in times:
        if name.search(text, max(previous, time.start - _MAX_GLUE), time.start):
            return time
        previous = time.stop
    return None
