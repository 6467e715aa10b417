"""Questions that hold their options as `(A) ...` lines, as the files of LVBench and the hub copies of MLVU do."""

from __future__ import annotations

import re

from evalkit.tables import Row
from evalkit.types import Question

from ._shared import LETTERS, parenthesised

_LINE = re.compile(r"\n\(([A-Z])\) ?")


def split_inlined(row: Row) -> tuple[str, tuple[str, ...]]:
    """The question without its options, and the options without their letters. Raises DataError where the lines do not
    run (A), (B), ... to the end."""
    whole = row.text("question")
    start = whole.rfind("\n(A)")
    parts = _LINE.split(whole[start:]) if start >= 0 else []
    letters, options = "".join(parts[1::2]), tuple(parts[2::2])
    if len(options) < 2 or letters != LETTERS[: len(options)]:
        raise row.error("question", "expected the options as lines (A) ..., (B) ...")
    return whole[:start], options


def verbatim(row: Row, text: str, options: tuple[str, ...]) -> dict[str, str]:
    """What a question's `meta` must hold where its lines are set in another way than `inlined` sets them."""
    whole = row.text("question")
    return {} if whole == _lines(text, options) else {"inlined": whole}


def inlined(q: Question) -> str:
    """The question with its options as `(A) ...` lines, as it stands in the file."""
    return q.meta.get("inlined") or _lines(q.text, q.options)


def _lines(text: str, options: tuple[str, ...]) -> str:
    return f"{text}\n{parenthesised(options)}"
