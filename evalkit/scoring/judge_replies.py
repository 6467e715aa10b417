"""Reads scores from a judge's reply: a dictionary of scores, or a score card. Nothing in a reply is evaluated as code.

A reply that cannot be read gives None. What it then counts as is the grader's decision.
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
    """The named scores: those of the last dictionary in the reply that has them all. Without such a dictionary, MLVU's
    rule: after each key, the text from the next colon to the next comma. None unless all are numbers from `low` to
    `high`."""
    text = strip_reasoning(reply).text
    for found in _dicts(text):
        scores = {key: _number(found.get(key)) for key in keys}
        if all(score is not None for score in scores.values()):
            return _within(scores, low, high)
    return _within({key: _number(_after_key(text, key)) for key in keys}, low, high)


class ScoreCard(NamedTuple):
    """VideoMathQA's judgement of a chain of thought.

    `score`: from 0 to 10. `matched`, `steps`: how many of the annotated steps were found; None unless given as X/N.
    `final_answer_correct`: None unless given as 0 or 1.
    """

    score: float
    matched: int | None
    steps: int | None
    final_answer_correct: bool | None


def read_score_card(reply: str) -> ScoreCard | None:
    """The dictionary after the last `SCORE_CARD`; None unless it has a score from 0 to 10."""
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
    """The dictionaries in the text, written as JSON or as Python literals; the last one first."""
    for start, end in reversed(_braces(text)[-_MAX_DICTS:]):
        if end - start <= _MAX_DICT_CHARS and isinstance(found := _literal(text[start:end]), dict):
            yield found


def _braces(text: str) -> list[tuple[int, int]]:
    """(start, end) of the outermost balanced braces. A closing brace without an opening one is skipped, and an opening
    brace that is never closed does not hide the balanced ones inside it."""
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
    """A finite number, also written as text; a bool is none."""
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
