"""Questions whose text contains their options as `(A) ...` lines, as in LVBench and in the hub copies of MLVU."""

from __future__ import annotations

import re

from evalkit.tables import Row
from evalkit.types import Question

from ._shared import LETTERS, parenthesised

_LINE = re.compile(r"\n\(([A-Z])\) ?")


def split_inlined(row: Row) -> tuple[str, tuple[str, ...]]:
    """The question without its options, and the options without their letters. Raises DataError if the lines are not
    (A), (B), ... in this order up to the end."""
    whole = row.text("question")
    start = whole.rfind("\n(A)")
    parts = _LINE.split(whole[start:]) if start >= 0 else []
    letters, options = "".join(parts[1::2]), tuple(parts[2::2])
    if len(options) < 2 or letters != LETTERS[: len(options)]:
        raise row.error("question", "expected the options as lines (A) ..., (B) ...")
    return whole[:start], options


def verbatim(row: Row, text: str, options: tuple[str, ...]) -> dict[str, str]:
    """`Question.meta` for `inlined`: the whole text, if `inlined` would write its lines differently; else empty."""
    whole = row.text("question")
    return {} if whole == _lines(text, options) else {"inlined": whole}


def inlined(q: Question) -> str:
    """The question with its options as `(A) ...` lines, as in the file."""
    return q.meta.get("inlined") or _lines(q.text, q.options)


def _lines(text: str, options: tuple[str, ...]) -> str:
    return f"{text}\n{parenthesised(options)}"
