"""Reply filters: what a published pipeline cuts from a reply before its extractor reads it.

A protocol names one (`Protocol.clean`), and `Task.grade` runs it before the grader. It is separate from the extractors
because the pipelines keep it separate; what it cut is written into the record (`note`).

    name       what it does
    as_is      nothing: the extractor gets the reply as it was generated
    stripped   white space at both ends (lmms-eval until 2025, and its forks in Video-XL-2 and VideoChat-Flash)
    lmms_eval  closed `<think>` and `<analysis>` blocks, then white space (lmms-eval 0.7, `--reasoning_tags` by default)
    evalkit    our own reading, `strip_reasoning`: task.reasoning=evalkit sets it for any protocol
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """`text`: what the extractor gets. `steps`: what was cut to get it; empty if nothing but white space was."""

    text: str
    steps: tuple[str, ...] = ()


ReplyFilter = Callable[[str], Answer]
"""The raw reply -> what the grader gets. Never raises; linear time."""


def as_is(reply: str) -> Answer:
    return Answer(reply)


def stripped(reply: str) -> Answer:
    return Answer(reply.strip())


# lmms-eval -----------------------------------------------------------------------------------------------------------

_LMMS_EVAL_TAGS = ("think", "analysis")


def lmms_eval(reply: str) -> Answer:
    """lmms-eval `api/reasoning.py:strip_reasoning_tags` (0.7.3) with the tags of its command line.

    Case matters. Each opening tag is cut up to the next closing tag. An opening tag that is never closed stays, with
    everything behind it. Closing tags without any opening tag cut all that comes before the last of them.
    """
    text, steps = reply, []
    for tag in _LMMS_EVAL_TAGS:
        opening, closing = f"<{tag}>", f"</{tag}>"
        shorter = _without_blocks(text, opening, closing)
        if shorter is not text:
            steps.append(f"dropped {opening}")
        if closing in shorter and opening not in shorter:
            shorter = shorter.rsplit(closing, 1)[1]
            steps.append(f"dropped up to {closing}")
        text = shorter
    return Answer(text.strip(), tuple(steps))


def _without_blocks(text: str, opening: str, closing: str) -> str:
    """Cut the first block again and again. A cut can bring the two halves of an opening tag together, which then
    opens the next block; therefore the last kept characters are looked at as well."""
    kept: list[str] = []  # characters
    at, overlap = 0, len(opening) - 1
    while True:
        tail = kept[-overlap:]
        seam = "".join(tail) + text[at : at + overlap]
        if (found := seam.find(opening)) >= 0:
            drop, inside = len(tail) - found, at + found + len(opening) - len(tail)
        elif (found := text.find(opening, at)) >= 0:
            drop, inside = 0, found + len(opening)
        else:
            break
        end = text.find(closing, inside)
        if end < 0:
            break
        if drop:
            del kept[-drop:]
        else:
            kept += text[at:found]
        at = end + len(closing)
    return "".join(kept) + text[at:] if at else text


# evalkit -------------------------------------------------------------------------------------------------------------

_THINK = re.compile(r"<(/?)(?:think|thinking)>", re.IGNORECASE)
_ANSWER = re.compile(r"<(/?)answer>", re.IGNORECASE)
_MARKER = re.compile(r"final answer\b(?:\s+is\b)?\s?[:：]?|\banswer\s?[:：]", re.IGNORECASE)


def strip_reasoning(reply: str) -> Answer:
    """evalkit's own reading: drop `<think>` and `<thinking>` blocks, closed or not; then keep the last `<answer>`, or
    else, if a block was dropped, what follows the last "Final answer" or "Answer:".

    A reply without tags is returned unchanged, byte for byte.
    """
    text, steps = _drop_thinking(reply)
    span = _inside_answer(text)
    if span is not None:
        return Answer(span, (*steps, "kept <answer>"))
    if not steps:
        return Answer(text)
    answer = after_marker(text)
    return Answer(answer.text, (*steps, *answer.steps))


def after_marker(text: str) -> Answer:
    """What follows the last "Final answer" or "Answer:"; the whole text if nothing does."""
    last = None
    for match in _MARKER.finditer(text):
        last = match
    if last and (tail := text[last.end() :].strip(" \t\r\n*_")):
        return Answer(tail, (f'kept what follows "{last[0].strip()}"',))
    return Answer(text)


def _drop_thinking(reply: str) -> tuple[str, tuple[str, ...]]:
    """Text outside `<think>`. An unclosed tag drops the rest. A closing tag without an opening one drops what came
    before: some chat templates put the opening tag into the prompt."""
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
    """The last non-empty `<answer>` block; one that is not closed runs to the end."""
    found, start = None, None
    for tag in _ANSWER.finditer(text):
        if not tag[1]:
            start = tag.end()
        elif start is not None:
            found, start = text[start : tag.start()].strip() or found, None
    if start is not None:
        found = text[start:].strip() or found
    return found


REPLY_FILTERS: dict[str, ReplyFilter] = {
    "as_is": as_is,
    "stripped": stripped,
    "lmms_eval": lmms_eval,
    "evalkit": strip_reasoning,
}
"""By name."""
