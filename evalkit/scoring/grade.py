"""Graders: what a protocol binds to turn a reply into a grade. Light constants for a task file.

grader=Choice("video_mme", letters="ABCDE", invalid="random")
grader=Span("lmms_eval")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from evalkit.errors import EvalkitError
from evalkit.scoring.extract import Extracted, extractor, seeded_choice
from evalkit.scoring.reasoning import Answer, strip_reasoning
from evalkit.scoring.spans import iou, span_parser
from evalkit.types import Grade, Question

if TYPE_CHECKING:  # a judge brings an HTTP client, which only judged tasks need
    from evalkit.scoring.judge import Judge, Messages

LETTERS = "ABCDEFGHIJ"
_KEPT_CHARS = 2000
"""Of a judge's reply that cannot be read, in the note of the grade."""

Invalid = Literal["wrong", "excluded", "excluded_if_empty", "random", "random_wrong"]


class Grader(Protocol):
    def grade(self, question: Question, reply: str) -> Grade:
        """Never raises, whatever the reply."""
        ...


@runtime_checkable
class JudgedGrader(Grader, Protocol):
    """A grader that asks a judge."""

    @property
    def judge(self) -> Judge | None: ...

    def chats(self, question: Question, reply: str) -> list[Messages]:
        """All that the judge is asked about a reply."""
        ...


@dataclass(frozen=True)
class Choice:
    """Multiple choice: an option letter by a named extractor, held against the gold letter.

    `letters`: the class of letters that the extractor looks for, as the published scorer has it; it may be wider than
    a question's options. `invalid`: what a reply without a letter counts as. `wrong` scores 0; `excluded` leaves the
    denominator; `excluded_if_empty` does so for the empty reply only (not for one that is empty after the pre-pass);
    `random` draws among the question's options and `random_wrong` among those that are not gold, by question id. Where
    a letter may be drawn, `values` has the score as graded without the draw (`strict`) and in expectation over it
    (`expected`). `markers`: see `strip_reasoning`.
    """

    extractor: str
    letters: str = "ABCD"
    invalid: Invalid = "wrong"
    reasoning: bool = True
    markers: bool = False

    def __post_init__(self) -> None:
        extractor(self.extractor)

    def read(self, question: Question, reply: str) -> tuple[Extracted, str, tuple[str, ...]]:
        """The letter, the text it was looked for in, and what the pre-pass did."""
        answer = strip_reasoning(reply, self.markers) if self.reasoning else Answer(reply)
        found = extractor(self.extractor).extract(answer.text, question.options, question.id, self.letters)
        return found, answer.text, answer.steps

    def grade(self, question: Question, reply: str) -> Grade:
        found, _, steps = self.read(question, reply)
        notes = list(steps)
        gold = self.gold_letter(question)
        if question.gold is not None and gold is None:
            beyond = str(question.gold) in LETTERS[: len(question.options)]
            notes.append("this scorer does not read the gold's letter" if beyond else "gold is not among the options")
        letter, rule = found.value, f"{self.extractor}: {found.rule}"
        if letter is None and self.invalid in ("random", "random_wrong"):
            letter = seeded_choice(question.id, self._draw_from(question, gold))
            rule = f"{self.extractor}: random"
        if question.gold is None:
            return Grade(None, letter, rule, found.ok, note="; ".join(notes))
        excluded = not found.ok and (
            self.invalid == "excluded" or (self.invalid == "excluded_if_empty" and reply == "")
        )
        score = None if excluded else float(letter is not None and letter == gold)
        values: dict[str, float] = {}
        if score is not None and (extractor(self.extractor).draws or self.invalid in ("random", "random_wrong")):
            options = len(question.options) or len(self.letters)
            chance = 0.0 if self.invalid == "random_wrong" or gold is None else 1 / options
            values = {"strict": score if found.ok else 0.0, "expected": score if found.ok else chance}
        return Grade(score, letter, rule, found.ok, values, "; ".join(notes))

    def gold_letter(self, question: Question) -> str | None:
        """The gold as a letter: as given, or that of the first option with the gold's text."""
        gold = question.gold
        if isinstance(gold, str) and len(gold) == 1 and gold in self.letters:
            return gold
        if isinstance(gold, str) and gold in question.options:
            return chr(ord("A") + question.options.index(gold))
        return None

    def _draw_from(self, question: Question, gold: str | None) -> Sequence[str]:
        letters = self.letters[: len(question.options)] if question.options else self.letters
        if self.invalid == "random_wrong":
            letters = "".join(letter for letter in letters if letter != gold) or letters
        return letters


@dataclass(frozen=True)
class Span:
    """Temporal grounding: a span in seconds by a named parser, held against the gold span.

    `values`: `iou`, and `R@<t>` (1 if IoU >= t) for each threshold; `score` is the one named by `headline`. Gold spans
    may end after the video does, which no prediction can reach: where `question.meta` has `duration_s`,
    `iou_clip_gold` is against the gold cut at the video's end, as a diagnostic.
    """

    parser: str
    thresholds: tuple[float, ...] = (0.3, 0.5, 0.7)
    headline: str = "iou"
    reasoning: bool = True

    def __post_init__(self) -> None:
        span_parser(self.parser)

    def grade(self, question: Question, reply: str) -> Grade:
        answer = strip_reasoning(reply) if self.reasoning else Answer(reply)
        span, rule = span_parser(self.parser).parse(answer.text)
        rule, note = f"{self.parser}: {rule}", "; ".join(answer.steps)
        gold = question.gold
        if gold is None:
            return Grade(None, span, rule, span is not None, note=note)
        assert not isinstance(gold, str), f"question {question.id}: the gold of a span is (start_s, end_s)"
        values = {"iou": iou(span, gold) if span else 0.0}
        values |= {f"R@{t:g}": float(values["iou"] >= t) for t in self.thresholds}
        duration = question.meta.get("duration_s")
        if duration is not None:
            clipped = (min(gold[0], duration), min(gold[1], duration))
            values["iou_clip_gold"] = iou(span, clipped) if span else 0.0
        return Grade(values[self.headline], span, rule, span is not None, values, note)


def gold_problem(grader: Grader, question: Question) -> str:
    """Why no reply to this question could be right, or ''."""
    gold, options = question.gold, question.options
    if gold is None:
        return ""
    if isinstance(grader, Span):
        whole = isinstance(gold, tuple) and len(gold) == 2 and all(isinstance(t, float | int) for t in gold)
        return "" if whole else f"its gold is {gold!r}, not a span (start_s, end_s)"
    if isinstance(grader, Choice) and options:
        letters = LETTERS[: len(options)]
        if gold not in options and not (isinstance(gold, str) and len(gold) == 1 and gold in letters):
            return f"its gold is {gold!r}, neither one of the letters {letters} nor one of its options"
    return ""


def _never(reply: str) -> bool:
    return False


@dataclass(frozen=True)
class Judged:
    """Open replies, graded by a judge model. `grade` may be called from several threads at once.

    `messages`: (question, reply) -> the chat that asks for a judgement.
    `read`: the judge's reply -> its named scores, or None where it cannot be read.
    `total`: the scores whose sum is the grade's `score`, in the judge's own scale.
    `zero`: whether the published scorer counts a judge's reply that `read` cannot read as 0. The grade is then 0 and
    invalid. Any other reply that cannot be read is asked for once more, and after that leaves the question ungraded.

    Without a judge a question stays ungraded, with a note: rescore the run once there is one.
    """

    messages: Callable[[Question, str], Messages]
    read: Callable[[str], Mapping[str, float] | None]
    total: tuple[str, ...]
    judge: Judge | None = None
    reasoning: bool = True
    zero: Callable[[str], bool] = _never

    def chat(self, question: Question, reply: str) -> tuple[Messages, tuple[str, ...]]:
        """What the judge is asked, and what was removed from the reply before (see `strip_reasoning`)."""
        answer = strip_reasoning(reply) if self.reasoning else Answer(reply)
        return self.messages(question, answer.text), answer.steps

    def chats(self, question: Question, reply: str) -> list[Messages]:
        return [self.chat(question, reply)[0]]

    def grade(self, question: Question, reply: str) -> Grade:
        """Where the judge cannot be asked, the question stays ungraded: the same command, or rescoring, grades it."""
        if self.judge is None:
            return Grade(None, note="not judged: no judge is set", graded=False)
        messages, steps = self.chat(question, reply)
        try:
            judgement = self.judge.ask(messages, lambda text: self.read(text) is not None or self.zero(text))
        except EvalkitError as error:
            return Grade(None, note=f"not judged: {error}", graded=False)
        scores = self.read(judgement)
        if scores is None:
            note = "; ".join((*steps, f"the judge's reply cannot be read: {judgement[:_KEPT_CHARS]!r}"))
            if self.zero(judgement):
                return Grade(0.0, None, "judge: none", False, dict.fromkeys(self.total, 0.0), note)
            return Grade(None, None, "judge: none", False, note=f"not judged: {note}", graded=False)
        total = sum(scores[name] for name in self.total)
        return Grade(total, f"{total:g}", "judge: scores", True, dict(scores), "; ".join(steps))
