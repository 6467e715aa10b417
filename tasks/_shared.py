"""What several benchmarks share: option letters and lines, and the first of several paths that exists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

LETTERS = ascii_uppercase


def letter_of(options: Sequence[str], answer: str) -> str | None:
    """The letter of the first option with this text; None if there is none, as in a few dirty rows."""
    return LETTERS[options.index(answer)] if answer in options else None


def parenthesised(options: Sequence[str]) -> str:
    """`(A) red` lines."""
    return "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def dotted(options: Sequence[str]) -> str:
    """`A. red` lines."""
    return "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))


def first_existing(*candidates: Path) -> Path:
    """The first path that exists, else the first of all: the one to be named as missing."""
    return next((path for path in candidates if path.exists()), candidates[0])
