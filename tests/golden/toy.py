"""The toy tokenizer of the cases `sequence` and `end_to_end`, as `case.json` describes it."""

from __future__ import annotations

import re

# "Time" and the chat markers are one token, every other character is one token.
WORDS = {"<|im_start|>": 3, "<|im_end|>": 4, "Time": 1462, ":": 25, ".": 13, "s": 82, " ": 220, "\n": 198} | {
    str(digit): 15 + digit for digit in range(10)
}
_PIECES = re.compile("|".join(re.escape(word) for word in sorted(WORDS, key=len, reverse=True)) + "|.", re.DOTALL)


def encode(text: str) -> list[int]:
    return [WORDS.get(piece, 300 + ord(piece[0]) % 700) for piece in _PIECES.findall(text)]
