"""Reads from a log's row what it says about its question, and compares that with a question of the task.

Harnesses have many column names for video, text, options and right answer; the names known here are read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from evalkit.types import Question

_VIDEO = ("videoID", "video_name", "video_path", "video_id", "video", "key", "vid", "image_id")
_TEXT = ("question", "caption", "sentence", "query")
_PROMPT = ("input", "prompt")
_OPTIONS = ("candidates", "options", "choices")
_OPTION_COLUMNS = ([f"option{i}" for i in range(10)], [f"a{i}" for i in range(10)], list("ABCDEFGHIJ"))
_GOLD = ("target", "answer", "gt", "gold", "ground_truth", "correct_choice", "gt_option", "gt_answer", "timestamp")
_LABEL = re.compile(r"^\s*(?:\(([A-J])\)|([A-J])[.):])\s*")
_OPTION_FORMS = ("{}. {}", "({}) {}", "{}) {}", "{}: {}", "{1}")
_OPTION_LINES = re.compile(r"\n\s*(?:Options?:\s*)?\(?A[).]")


@dataclass(frozen=True)
class LoggedQuestion:
    """What the columns of a row say about its question; None or empty without such a column.

    `videos`: names of the video, without folder and ending. `text`: the question without its options, white space
    collapsed. `prompt`: the lines of the text that was asked. `golds`: the right answer, as each of the columns that
    have it states it. `span`: the part of the video, in seconds. `needle`: frames and depth in a needle test.
    `number`: which of several versions of the question it is, from the column `try`.
    """

    videos: tuple[str, ...] = ()
    text: str | None = None
    prompt: tuple[str, ...] = ()
    options: tuple[str, ...] | None = None
    golds: tuple[Any, ...] = ()
    span: tuple[float, float] | None = None
    needle: tuple[float, float] | None = None
    number: int | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> LoggedQuestion:
        text = next((str(values[name]) for name in _TEXT if isinstance(values.get(name), str)), None)
        prompt = next((values[name] for name in _PROMPT if isinstance(values.get(name), str)), "")
        videos = (stem(str(values[name])) for name in _VIDEO if isinstance(values.get(name), str | int))
        return cls(
            tuple(dict.fromkeys(videos)),
            plain(text) if text else None,
            tuple(line for line in map(_collapsed, prompt.splitlines()) if line),
            _options(values, text or ""),
            tuple(values[name] for name in _GOLD if values.get(name) is not None),
            _span([values.get("start"), values.get("end")]),
            _span([values.get("frames"), values.get("depth")]),
            whole_number(values.get("try")),
        )

    @property
    def texts(self) -> list[str]:
        return [text for text in (self.text, " ".join(self.prompt)) if text]

    def blocks(self) -> Iterator[str]:
        """Each sequence of up to 12 lines of the prompt, as one text. One of them may be the question."""
        for start in range(len(self.prompt)):
            for end in range(start + 1, min(start + 12, len(self.prompt)) + 1):
                yield " ".join(self.prompt[start:end])


def stem(name: str) -> str:
    """A video's name without folders and the usual endings."""
    return re.sub(r"\.(mp4|mkv|webm|avi|mov)$", "", name.replace("\\", "/").rsplit("/", 1)[-1], flags=re.IGNORECASE)


@lru_cache(maxsize=1 << 16)
def plain(text: str) -> str:
    """A question without its option lines, white space collapsed."""
    return _collapsed(_OPTION_LINES.split(text, maxsplit=1)[0])


def _collapsed(text: str) -> str:
    return " ".join(text.replace("_x000D_", " ").split())


# Comparisons: True, False, or None where there is nothing to compare --------------------------------------------------


def same_text(logged: LoggedQuestion, question: Question) -> bool | None:
    """Whether the texts agree. A log may have the question inside a longer text, or only a part of it. A prompt without
    the question gives None, because it may be a rewritten one."""
    own = plain(question.text)
    if not logged.texts or not own:
        return None
    if any(own in text for text in logged.texts):
        return True
    return None if logged.text is None else logged.text in own and len(logged.text) > 20


def same_options(logged: LoggedQuestion, question: Question) -> bool | None:
    """Whether the options agree, in number, order and text."""
    if logged.options is None or not question.options:
        return None
    if len(logged.options) != len(question.options):
        return False
    return all(_forms(a) & _forms(b) for a, b in zip(logged.options, question.options, strict=True))


def has_options(logged: LoggedQuestion, question: Question) -> bool:
    """Whether the prompt shows all of the question's options."""
    prompt = " ".join(logged.prompt)
    return bool(prompt) and all(_collapsed(option) in prompt for option in question.options)


def has_options_in_order(logged: LoggedQuestion, question: Question) -> bool:
    """Whether the prompt shows the question's options one after another in their order, each behind its letter."""
    prompt = " ".join(logged.prompt)
    lettered = list(zip("ABCDEFGHIJ", map(_collapsed, question.options), strict=False))
    return bool(prompt and lettered) and any(
        " ".join(form.format(*option) for option in lettered) in prompt for form in _OPTION_FORMS
    )


def same_number(logged: LoggedQuestion, question: Question) -> bool:
    """Whether the row's `try` is the question's number among the questions that are scored together."""
    return logged.number is not None and question.id == f"{question.unit}_{logged.number}"


def same_gold(logged: LoggedQuestion, question: Question) -> bool | None:
    """Whether a column gives the right answer: as letter, text, number of the option, or time span. Columns with
    anything else are ignored."""
    if question.gold is None:
        return None
    if isinstance(question.gold, tuple):
        spans = [span for gold in logged.golds if (span := _span(gold)) is not None]
        return any(_same_span(span, question.gold) for span in spans) if spans else None
    verdicts = [v for gold in logged.golds if (v := _same_answer(gold, question)) is not None]
    return any(verdicts) if verdicts else None


def _same_answer(stated: Any, question: Question) -> bool | None:
    gold, options = str(question.gold), question.options
    letters = "ABCDEFGHIJ"[: len(options)]
    number = letters.find(gold) if len(gold) == 1 else -1
    rights = (gold, f"({gold})", options[number], str(number)) if number >= 0 else (gold,)
    text = _collapsed(str(stated))
    if any(_forms(text) & _forms(right) for right in rights):
        return True
    if options and number < 0 and not any(_forms(gold) & _forms(option) for option in options):
        return None  # a few rows' answers are none of their options, and copies of the data make different things of it
    label = _LABEL.match(text) or re.fullmatch(r"\(?([A-J])\)?()", text)
    states_one = (label and (label[1] or label[2]) in letters) or text in map(str, range(len(options)))
    return False if states_one or not options or any(_forms(text) & _forms(o) for o in options) else None


def _same_span(a: tuple[float, float], b: Sequence[float]) -> bool:
    """Equal within the precision of a copy of the data that has times as 16-bit floats."""
    return all(abs(x - y) <= max(0.02, 0.001 * abs(y)) for x, y in zip(a, b, strict=True))


# Reading -------------------------------------------------------------------------------------------------------------


def _options(values: Mapping[str, Any], text: str) -> tuple[str, ...] | None:
    """From a list, its printed form, columns of their own, or the lines behind the question."""
    for name in _OPTIONS:
        value = values.get(name)
        if isinstance(value, str):
            try:
                value = ast.literal_eval(value)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                continue
        if isinstance(value, (list, tuple)) and value:
            return tuple(str(option) for option in value)
    for columns in _OPTION_COLUMNS:
        found = [str(values[name]) for name in columns if values.get(name) is not None]
        while found and found[-1] == "N/A":
            found.pop()
        if len(found) > 1 and all(name in values for name in columns[: len(found)]):
            return tuple(found)
    return _lines(text)


def _lines(text: str) -> tuple[str, ...] | None:
    """Options that follow the question as lines (A) ..., (B) ..."""
    found = _OPTION_LINES.search(text)
    if found is None:
        return None
    parts = re.split(r"\n\s*\(?([A-J])[).]\s*", "\n" + text[found.start() :].lstrip().removeprefix("Options:").lstrip())
    letters, options = "".join(parts[1::2]), parts[2::2]
    return tuple(options) if len(options) > 1 and "ABCDEFGHIJ".startswith(letters) else None


@lru_cache(maxsize=1 << 16)
def _forms(text: str) -> frozenset[str]:
    """An option as it is compared, with and without a letter in front of it. Case and a final full stop do not matter,
    and 3 and 3.0 are one number."""
    return frozenset(_bare(form) for form in (text, _LABEL.sub("", text) or text))


def _bare(text: str) -> str:
    value = _collapsed(text).rstrip(".").casefold()
    return value[:-2] if re.fullmatch(r"\d+\.0", value) else value


def _span(value: Any) -> tuple[float, float] | None:
    if isinstance(value, str):
        numbers = re.findall(r"-?\d+(?:\.\d+)?", value)
        value = numbers if re.fullmatch(r"[\s\[\](),.\d-]*", value) else []
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    try:
        start, end = (float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return start, end


def whole_number(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():  # tables turn whole numbers into floats
        return int(value)
    try:
        return int(str(value))
    except ValueError:
        return None
