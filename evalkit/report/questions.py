"""A record for a reader: its mark (right, wrong, ...), its question as found in the prompt, its values as text."""

from __future__ import annotations

import re
from typing import Any

from evalkit.types import Record

MARKS = {
    "right": "right",
    "partly": "partly right",
    "wrong": "wrong",
    "unread": "reply not read",
    "failed": "failed",
    "waiting": "waits for its judge",
    "dropped": "not scored",
}
"""The marks of an answer, as words."""

SIGNS = {"right": "✓", "partly": "◐", "wrong": "✗", "unread": "?", "failed": "!", "waiting": "…", "dropped": "–"}
"""The marks as one character, so that they do not depend on colour."""

_SPECIAL = re.compile(r"<\|[^|>]*\|>|<(?:video|image)>")


def mark(record: Record) -> str:
    """A key of MARKS."""
    if record.status != "ok":
        return "waiting" if record.status == "ungraded" else "failed"
    if not record.valid and not record.score:
        return "unread"
    if record.score is None:
        return "dropped"
    return "right" if record.score >= 1 else "wrong" if record.score <= 0 else "partly"


def gist(record: Record, longest: int = 110) -> str:
    """The question itself, taken from the prompt: its last line that ends with a question mark, else its longest."""
    lines = [line.strip() for line in _SPECIAL.sub("\n", record.prompt or "").splitlines() if line.strip()]
    if not lines:
        return record.question
    asking = [line for line in lines if line.endswith("?")] or [line for line in lines if "?" in line]
    found = asking[-1] if asking else max(lines, key=len)
    found = found.removeprefix("Question:").strip()
    return found if len(found) <= longest else f"{found[: longest - 1].rstrip()}…"


def shown(value: Any) -> str:
    """An extracted value or a gold one; a span in seconds as `12.0 to 15.5 s`."""
    if value is None:
        return "–"
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, int | float) for v in value):
        return f"{value[0]:.1f} to {value[1]:.1f} s"
    return str(value)
