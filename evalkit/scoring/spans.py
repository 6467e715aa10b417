"""How published scorers read a time span from a reply (Charades-STA and other temporal grounding).

Each rule repeats one scorer with its defects; `tolerant` is our own. None raises on any input; all run in linear time.
A reply that cannot be read is a miss (IoU 0). Some of the scorers get the same by a dummy span after the gold one.

    name               alias  rule of
    lmms_eval          T1     lmms-eval `charades_sta/utils.py` (2026)
    lmms_eval_offline  T2     its older offline script `eval_tvg.py`
    videochat_flash    T3     VideoChat-Flash; the first lmms-eval script
    timesuite          T4     TimeSuite and TimeChat `format_tvg.py`
    time_r1            T5     Time-R1 `evaluate.py`
    tolerant           T+     evalkit: for comparing models whose prompts ask for different forms
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from evalkit.errors import ConfigError, suggest
from evalkit.scoring.span_words import tolerant_span

Pair = tuple[float, float]


class ParsedSpan(NamedTuple):
    """`span`: (start_s, end_s), or None if nothing was found. `rule`: the part of the rule that decided."""

    span: Pair | None
    rule: str


Rule = Callable[[str], tuple[Pair, str] | None]


@dataclass(frozen=True)
class SpanParser:
    """A named rule. `ordered`: start and end are swapped if the start is later."""

    name: str
    rule: Rule
    alias: str
    ordered: bool = True

    def parse(self, reply: str) -> ParsedSpan:
        found = self.rule(reply)
        if found is None:
            return ParsedSpan(None, "none")
        (start, end), rule = found
        if not (math.isfinite(start) and math.isfinite(end)):
            return ParsedSpan(None, "not a finite number")
        if self.ordered and start > end:
            start, end = end, start
        return ParsedSpan((start, end), rule)


def iou(a: Pair, b: Pair) -> float:
    """Length of the intersection over the length from the earlier start to the later end; 0 if they do not overlap."""
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return max(min(a[1], b[1]) - max(a[0], b[0]), 0.0) / hull if hull > 0 else 0.0


# Patterns. `(?<!\d)` lets a match start only at the first digit of a number: same first match, linear time. -----------

_RANGE = re.compile(r"(?<!\d)(\d+(?:\.\d+)?)\s*[–-]\s*(\d+(?:\.\d+)?)")
_RANGE_S = re.compile(r"(?<!\d)(\d+(?:\.\d+)?)\s*(?:s\s*)?[–-]\s*(\d+(?:\.\d+)?)")
_RANGE_DOTS = re.compile(r"(?<!\d)(\d+(?:\.+\d*)?)\s*-\s*(\d+(?:\.+\d*)?)")
_CLOCK_RANGE = re.compile(r"\b(\d{1,2}:\d{2}(?::\d{2})?)\s*[–-]\s*(\d{1,2}:\d{2}(?::\d{2})?)\b")
_CLOCK = re.compile(r"\b\d{1,2}:\d{2}(?::\d{2})?\b")
_LONG_CLOCK = re.compile(r"\b\d{1,2}:\d{2}:\d{2}\b")
_NUMBER = re.compile(r"\b\d+(?:\.\d+)?\b")
_TO_AND = re.compile(r"(?<!\d)(\d+(?:\.\d*)?) (?:to|and) (\d+(?:\.\d*)?)")

_EXAMPLE = "a specific example is : 20.8 - 30.0 seconds"
_KEYWORDS = ("start", "end", "happen")  # the originals also list longer words that contain these
_LINES = re.compile(r"[!?\n]")  # not the full stop


def _lmms_eval(reply: str) -> tuple[Pair, str] | None:
    lines = _LINES.split(_dashed(reply))
    lines = _with_keyword(lines) or lines
    return (
        _first_pair(lines, _CLOCK_RANGE, "clock range")
        or _first_pair(lines, _RANGE, "range")
        or _paired((clock for line in lines for clock in _CLOCK.findall(line)), "two clock times")
        or _paired(_first_of_each(lines, _NUMBER), "first number of two lines")
        or _first_pair(lines, _RANGE_S, "range with units")
    )


def _lmms_eval_offline(reply: str) -> tuple[Pair, str] | None:
    lines = _with_keyword(_LINES.split(_dashed(reply)))
    return (
        _first_pair(lines, _RANGE, "range")
        or _paired(_first_of_each(lines, _NUMBER), "first number of two lines")
        or _paired(_first_of_each(lines, _LONG_CLOCK), "first clock time of two lines")
        or _first_pair(lines, _RANGE_S, "range with units")
    )


def _anywhere(text: str) -> tuple[Pair, str] | None:
    """A range anywhere in the text, else the first time of each of two lines."""
    lines = _with_keyword(_LINES.split(text))
    return (
        _first_pair([text], _RANGE_DOTS, "range")
        or _paired(_first_of_each(lines, _NUMBER), "first number of two lines")
        or _paired(_first_of_each(lines, _LONG_CLOCK), "first clock time of two lines")
    )


def _time_r1(reply: str) -> tuple[Pair, str] | None:
    last = None
    for match in _TO_AND.finditer(reply):
        last = match
    return ((_seconds(last[1]), _seconds(last[2])), 'last "to" or "and"') if last else None


def _dashed(reply: str) -> str:
    """Lower case, without the prompt's example, every "to" replaced by a dash (as the original: "stop" is "s-p")."""
    return reply.lower().replace(_EXAMPLE, "").replace("to", "-")


def _with_keyword(lines: Sequence[str]) -> list[str]:
    return [line for line in lines if any(word in line for word in _KEYWORDS)]


def _first_pair(lines: Iterable[str], pattern: re.Pattern[str], rule: str) -> tuple[Pair, str] | None:
    match = next((match for line in lines if (match := pattern.search(line))), None)
    return ((_seconds(match[1]), _seconds(match[2])), rule) if match else None


def _first_of_each(lines: Iterable[str], pattern: re.Pattern[str]) -> Iterable[str]:
    return (match[0] for line in lines if (match := pattern.search(line)))


def _paired(times: Iterable[str], rule: str) -> tuple[Pair, str] | None:
    times = iter(times)
    start, end = next(times, None), next(times, None)
    return ((_seconds(start), _seconds(end)), rule) if start is not None and end is not None else None


def _seconds(time: str) -> float:
    """`12.5`, `m:ss` or `h:mm:ss` in seconds; nan for other text ("1..5"; the original scorers crash on it)."""
    try:
        return sum(float(part) * 60**power for power, part in enumerate(reversed(time.split(":"))))
    except ValueError:
        return math.nan


_ALL = (
    SpanParser("lmms_eval", _lmms_eval, "T1"),
    SpanParser("lmms_eval_offline", _lmms_eval_offline, "T2"),
    SpanParser("videochat_flash", lambda reply: _anywhere(_dashed(reply)), "T3"),
    SpanParser("timesuite", lambda reply: _anywhere(reply.lower()), "T4"),
    SpanParser("time_r1", _time_r1, "T5", ordered=False),
    SpanParser("tolerant", tolerant_span, "T+"),
)

SPAN_PARSERS: dict[str, SpanParser] = {p.name: p for p in _ALL} | {p.alias: p for p in _ALL}
"""By name, and by alias."""


def span_parser(name: str) -> SpanParser:
    """Raises ConfigError on an unknown name."""
    if name not in SPAN_PARSERS:
        raise ConfigError(
            f'There is no span parser "{name}".{suggest(name, SPAN_PARSERS)} Choose one of: {", ".join(SPAN_PARSERS)}.'
        )
    return SPAN_PARSERS[name]
