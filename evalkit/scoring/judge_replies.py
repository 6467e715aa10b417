"""Reading what a judge wrote: dictionaries of scores, score cards. Never by evaluating it.

A reply that cannot be read gives None: it counts as 0 in the published scorers, and is counted and shown here.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from evalkit.scoring.reasoning import strip_reasoning

_MAX_DICT_CHARS = 20_000
_MAX_DICTS = 20


def read_scores(
    reply: str, keys: Sequence[str], low: float = -math.inf, high: float = math.inf
) -> dict[str, float] | None:
    """The named scores of the last dictionary in the reply that has them all; else by MLVU's rule: behind each key, the
    text after the next colon up to the next comma. None unless all are numbers from `low` to `high`."""
    text = strip_reasoning(reply).text
    for found in _dicts(text):
        scores = {key: _number(found.get(key)) for key in keys}
        if all(score is not None for score in scores.values()):
            return _within(scores, low, high)
    return _within({key: _number(_after_key(text, key)) for key in keys}, low, high)


class ScoreCard(NamedTuple):
    """VideoMathQA's judgement of a chain of thought: `score` 0-10, steps matched of those annotated (None where not
    given as X/N), and whether the final answer is right."""

    score: float
    matched: int | None
    steps: int | None
    final_answer_correct: bool | None


def read_score_card(reply: str) -> ScoreCard | None:
    """The dictionary behind the last `SCORE_CARD`, with a score from 0 to 10."""
    text = strip_reasoning(reply).text
    at = text.rfind("SCORE_CARD")
    if at < 0:
        return None
    for found in _dicts(text[at:]):
        score = _number(found.get("score"))
        if score is not None and 0 <= score <= 10:
            steps = re.fullmatch(r"\s*(\d{1,4})\s*/\s*(\d{1,4})\s*", str(found.get("matched_steps", "")))
            correct = _number(found.get("final_answer_correct"))
            return ScoreCard(
                score,
                int(steps[1]) if steps else None,
                int(steps[2]) if steps else None,
                bool(correct) if correct in (0, 1) else None,
            )
    return None


def _dicts(text: str) -> Iterator[dict[Any, Any]]:
    """Dictionaries written in the text as JSON or as Python literals, the last first."""
    for start, end in reversed(_braces(text)[-_MAX_DICTS:]):
        if end - start <= _MAX_DICT_CHARS and isinstance(found := _literal(text[start:end]), dict):
            yield found


def _braces(text: str) -> list[tuple[int, int]]:
    """Spans of the outermost balanced braces; a stray closing one is skipped, an unclosed one does not hide later."""
    spans: list[tuple[int, int]] = []
    open_at: list[int] = []
    for match in re.finditer(r"[{}]", text):
        if match[0] == "{":
            open_at.append(match.start())
        elif open_at:
            start = open_at.pop()
            while spans and spans[-1][0] > start:
                spans.pop()
            spans.append((start, match.end()))
    return spans


def _literal(text: str) -> object:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return None


def _after_key(text: str, key: str) -> str | None:
    at = text.find(key)
    colon = text.find(":", at) if at >= 0 else -1
    if colon < 0:
        return None
    return text[colon + 1 :].split(",", 1)[0].strip(" \t\r\n}'\"`*")


def _number(value: object) -> float | None:
    """A finite number, also as text; not a truth value."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _within(scores: dict[str, float | None], low: float, high: float) -> dict[str, float] | None:
    known = {key: score for key, score in scores.items() if score is not None and low <= score <= high}
    return known if len(known) == len(scores) else None
