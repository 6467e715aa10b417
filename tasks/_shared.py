"""Shared by several benchmarks: option letters and lines, and the search for a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import ascii_uppercase

from evalkit.errors import SampleError

LETTERS = ascii_uppercase


def letter_of(options: Sequence[str], answer: str, last: bool = False) -> str | None:
    """The letter of the first (or last) option with this text; None if there is none, as in a few faulty rows, or if it
    stands beyond the letter Z."""
    found = [letter for letter, option in zip(LETTERS, options, strict=False) if option == answer]
    return found[-1 if last else 0] if found else None


def lettered(options: Sequence[str]) -> list[tuple[str, str]]:
    """(letter, option). Raises SampleError for more options than letters: the question cannot be asked."""
    if len(options) > len(LETTERS):
        raise SampleError(f"{len(options)} options, and the letters A to Z name {len(LETTERS)}", "malformed")
    return list(zip(LETTERS, options, strict=False))


def parenthesised(options: Sequence[str]) -> str:
    """`(A) red` lines."""
    return "\n".join(f"({letter}) {option}" for letter, option in lettered(options))


def dotted(options: Sequence[str]) -> str:
    """`A. red` lines."""
    return "\n".join(f"{letter}. {option}" for letter, option in lettered(options))


def first_existing(*candidates: Path) -> Path:
    """The first path that exists, else the first of all, which messages then name as missing."""
    return next((path for path in candidates if path.exists()), candidates[0])
