"""Questions that hold their options as `(A) ...` lines, as the files of LVBench and the hub copies of MLVU do."""

from __future__ import annotations

import re

from evalkit.tables import Row

from ._shared import LETTERS, parenthesised

_LINE = re.compile(r"\n\(([A-J])\) ?")


def split_inlined(row: Row, column: str = "question") -> tuple[str, tuple[str, ...]]:
    """The question without its options, and the options without their letters. Raises DataError where the lines do not
    run (A), (B), ... to the end."""
    whole = row.text(column)
    start = whole.rfind("\n(A)")
    parts = _LINE.split(whole[start:]) if start >= 0 else []
    letters, options = "".join(parts[1::2]), tuple(parts[2::2])
    if len(options) < 2 or letters != LETTERS[: len(options)]:
        raise row.error(column, "expected the options as lines (A) ..., (B) ...")
    return whole[:start], options


def inlined(text: str, options: tuple[str, ...]) -> str:
    """The other way: the question, then its options as `(A) ...` lines."""
    return f"{text}\n{parenthesised(options)}"
