"""The pre-pass that cuts reasoning from a reply, so that extractors see the answer alone.

It is separate from the extractors and logged: an extractor stays what its scorer ran, and the record says what was cut.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_THINK = re.compile(r"<(/?)(?:think|thinking)>", re.IGNORECASE)
_ANSWER = re.compile(r"<(/?)answer>", re.IGNORECASE)
_MARKER = re.compile(r"final answer\b(?:\s+is\b)?\s?[:：]?|\banswer\s?[:：]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is what the extractor gets; `steps` is what was done to get there, empty for an untouched reply."""

    text: str
    steps: tuple[str, ...] = ()


def strip_reasoning(reply: str, markers: bool = False) -> Answer:
    """Drop `<think>` spans (closed or not), then keep what is inside the last `<answer>`, or else behind the last
    "Final answer" or "Answer:".

    A reply without tags is returned untouched, byte for byte. `markers=True` looks for "Final answer" and "Answer:"
    in those as well: for protocols that ask for reasoning in plain text.
    """
    text, steps = _drop_thinking(reply)
    span = _inside_answer(text)
    if span is not None:
        return Answer(span, (*steps, "kept <answer>"))
    if steps or markers:
        last = None
        for match in _MARKER.finditer(text):
            last = match
        if last and (tail := text[last.end() :].strip(" \t\r\n*_")):
            return Answer(tail, (*steps, f'kept what follows "{last[0].strip()}"'))
    return Answer(text, steps)


def _drop_thinking(reply: str) -> tuple[str, tuple[str, ...]]:
    """Text outside `<think>`. An unclosed tag drops the rest; a closing tag without an opening one (the template had
    opened it) drops what came before."""
    kept: list[str] = []
    steps: list[str] = []
    inside, at = False, 0
    for tag in _THINK.finditer(reply):
        closing = bool(tag[1])
        if closing and not inside:
            kept.clear()
            steps.append("dropped up to </think>")
        elif closing:
            steps.append("dropped <think>")
        elif not inside:
            kept.append(reply[at : tag.start()])
        inside, at = not closing, tag.end()
    if not at:
        return reply, ()
    if inside:
        steps.append("dropped unclosed <think>")
    else:
        kept.append(reply[at:])
    return "".join(kept).strip(), tuple(dict.fromkeys(steps))


def _inside_answer(text: str) -> str | None:
    """The last non-empty `<answer>` span; one that is not closed runs to the end."""
    found, start = None, None
    for tag in _ANSWER.finditer(text):
        if not tag[1]:
            start = tag.end()
        elif start is not None:
            found, start = text[start : tag.start()].strip() or found, None
    if start is not None:
        found = text[start:].strip() or found
    return found
