"""The text around the video: chat template, timestamps, rewritten times, token ids.

    <|im_start|>system\\n{system}<|im_end|>\\n<|im_start|>user\\n                  prefix, shared by all questions
    Time 0.0s: [144 visual tokens] Time 4.0s: [144 visual tokens] ...           groups of four frames
    \\n{question}<|im_end|>\\n<|im_start|>assistant\\n{answer prefix}              question

Each piece is tokenised by itself, as the authors do (github.com/VectorSpaceLab/Video-XL): the template is split where
the video stands, and every timestamp is a text of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evalkit.errors import ConfigError, suggest
from evalkit.types import Cue, Prompt

from .geometry import GROUP_FRAMES

SYSTEM = "You are a helpful assistant."
END_OF_TURN = "<|im_end|>"
IMAGE = "<image>"

Encode = Callable[[str], Sequence[int]]
"""Text to token ids, without adding special tokens but knowing those that the text spells out."""


@dataclass(frozen=True, slots=True)
class ContextTokens:
    """Token ids of what all questions share. `groups[g]` are the ids in front of the visual tokens of group g: its
    subtitles, then its timestamp. `tail` are subtitles after the last frame."""

    prefix: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    tail: tuple[int, ...] = ()


def timestamp(time_s: float) -> str:
    """`Time 12.0s:`, the time as Python prints it, to a tenth of a second."""
    return f"Time {round(float(time_s), 1)}s:"


_TWO_BY_TWO = re.compile(r"\d{2}:\d{2}")


def rewrite_authors(text: str) -> str:
    """`mm:ss` to seconds as the authors' evaluation does it: every two digits, colon, two digits (from left to right),
    each replaced wherever it occurs in the text. So `01:02:03` becomes `62 seconds:03`, and clock times and scores
    change too. Kept because the published numbers were obtained with it."""
    for found in _TWO_BY_TWO.findall(text):
        minutes, seconds = found.split(":")
        text = text.replace(found, f"{60 * int(minutes) + int(seconds)} seconds")
    return text


_TIME = re.compile(
    r"(?<!\d)(?<!\d[:.])"  # not the rest of a longer number or time
    r"(?:(?P<hours>\d{1,2}):(?P<of_hour>[0-5]\d)|(?P<minutes>\d{2,3}))"
    r":(?P<seconds>[0-5]\d(?:\.\d+)?)"
    r"(?!\d|:\d)",
    re.ASCII,
)


def rewrite_correct(text: str) -> str:
    """`mm:ss`, `mmm:ss` and `h:mm:ss` (with fractions of a second, if any) to seconds, where they stand; nothing else:
    `5:30`, `12:75` and `1:2:03` stay. A clock time or score of the same form cannot be told apart and changes too."""

    def seconds(match: re.Match[str]) -> str:
        minutes = 60 * int(match["hours"]) + int(match["of_hour"]) if match["hours"] else int(match["minutes"])
        whole, dot, fraction = match["seconds"].partition(".")
        return f"{60 * minutes + int(whole)}{dot}{fraction} seconds"

    return _TIME.sub(seconds, text)


def leave(text: str) -> str:
    return text


REWRITES: dict[str, Callable[[str], str]] = {"authors": rewrite_authors, "correct": rewrite_correct, "off": leave}


class ChatText:
    """Turns contexts and prompts into token ids. `time_rewrite` names an entry of REWRITES; it applies to the system
    text and to prompts, not to subtitles."""

    def __init__(self, encode: Encode, time_rewrite: str = "authors") -> None:
        if time_rewrite not in REWRITES:
            raise ConfigError(
                f'time_rewrite="{time_rewrite}": choose {", ".join(REWRITES)}.{suggest(time_rewrite, REWRITES)}'
            )
        self._encode = encode
        self._rewrite = REWRITES[time_rewrite]

    def prefix_text(self, system: str | None) -> str:
        """What stands before the video; None is the model's own system text."""
        text = f"<|im_start|>system\n{SYSTEM if system is None else system}{END_OF_TURN}\n<|im_start|>user\n"
        return self._rewrite(text)

    def question_text(self, prompt: Prompt) -> str:
        """What stands after the video, up to where the model goes on."""
        text = f"\n{prompt.text}{END_OF_TURN}\n<|im_start|>assistant\n{prompt.answer_prefix}"
        return self._rewrite(text)

    def context(self, times_s: Sequence[float], system: str | None = None, cues: Sequence[Cue] = ()) -> ContextTokens:
        """`times_s` are those of all frames; a group bears the time of its first frame. A subtitle stands in front of
        the group of the frame it precedes."""
        groups: list[list[int]] = [[] for _ in range(-(-len(times_s) // GROUP_FRAMES))]
        tail: list[int] = []
        for cue in sorted(cues, key=lambda cue: cue.at):
            place = groups[cue.at // GROUP_FRAMES] if cue.at < len(times_s) else tail
            place.extend(self._encode(cue.text + "\n"))
        for ids, time_s in zip(groups, times_s[::GROUP_FRAMES], strict=True):
            ids.extend(self._encode(timestamp(time_s)))
        return ContextTokens(
            prefix=tuple(self._encode(self.prefix_text(system))),
            groups=tuple(tuple(ids) for ids in groups),
            tail=tuple(tail),
        )

    def question(self, prompt: Prompt) -> tuple[int, ...]:
        """Token ids of what differs between questions."""
        return tuple(self._encode(self.question_text(prompt)))
