"""Graders: what a protocol uses to turn a reply into a grade. A task file makes them as constants.

grader=Choice("video_mme", letters="ABCDE", invalid="random")
grader=Span("lmms_eval")

A grader gets the reply as the protocol's reply filter leaves it (see `reasoning.py` and `grade_reply`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase as LETTERS
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from evalkit.errors import EvalkitError
from evalkit.scoring.extract import extractor, seeded_choice
from evalkit.scoring.reasoning import ReplyFilter, after_marker
from evalkit.scoring.spans import Pair, iou, span_parser
from evalkit.types import Grade, Question

if TYPE_CHECKING:  # imports an HTTP client, which only judged tasks need
    from evalkit.scoring.judge import Judge, Messages

_KEPT_CHARS = 2000
"""Of a judge's reply that cannot be read, in the note of the grade."""

Invalid = Literal["wrong", "excluded", "excluded_if_empty", "random", "random_wrong"]


class Grader(Protocol):
    def grade(self, question: Question, reply: str) -> Grade:
        """Never raises, whatever the reply and the gold."""
        ...


@runtime_checkable
class JudgedGrader(Grader, Protocol):
    """A grader that asks a judge model."""

    @property
    def judge(self) -> Judge | None: ...

    def chats(self, question: Question, reply: str) -> list[Messages]:
        """All requests to the judge about one reply."""
        ...


def grade_reply(grader: Grader, clean: ReplyFilter, question: Question, reply: str) -> Grade:
    """The grade of a raw reply. Its note begins with what the reply filter cut."""
    answer = clean(reply)
    grade = grader.grade(question, answer.text)
    return replace(grade, note=_joined(*answer.steps, grade.note)) if answer.steps else grade


@dataclass(frozen=True)
class Choice:
    """Multiple choice: a named extractor reads an option letter, which is compared with the gold letter.

    `extractor`: a name of `evalkit.scoring.extract`.
    `letters`: the letters that the extractor looks for, as the published scorer has them; may be more than a question
        has options.
    `invalid`: how a reply without a letter counts. `wrong`: score 0. `excluded`: not in the denominator.
        `excluded_if_empty`: not in the denominator if the filtered reply is empty, else wrong. `random`: a letter drawn
        from the question's options. `random_wrong`: drawn from those that are not gold. The question id is the seed.
        Where a letter may be drawn, `Grade.values` has `strict` (a draw counts as wrong) and `expected` (a draw counts
        as the chance of being right).
    `markers`: read only what follows the last "Final answer" or "Answer:".
    """

    extractor: str
    letters: str = "ABCD"
    invalid: Invalid = "wrong"
    markers: bool = False

    def __post_init__(self) -> None:
        extractor(self.extractor)

    def grade(self, question: Question, reply: str) -> Grade:
        answer = after_marker(reply) if self.markers else None
        text = answer.text if answer else reply
        found = extractor(self.extractor).extract(text, question.options, question.id, self.letters)
        gold = self.gold_letter(question)
        note = _joined(*(answer.steps if answer else ()), self._gold_note(question, gold))
        letter, rule = found.value, f"{self.extractor}: {found.rule}"
        if letter is None and self.invalid in ("random", "random_wrong"):
            letter = seeded_choice(question.id, self._draw_from(question, gold))
            rule = f"{self.extractor}: random"
        if question.gold is None:
            return Grade(None, letter, rule, found.ok, note=note)
        excluded = not found.ok and (
            self.invalid == "excluded" or (self.invalid == "excluded_if_empty" and reply == "")
        )
        score = None if excluded else float(letter is not None and letter == gold)
        values: dict[str, float] = {}
        if score is not None and (extractor(self.extractor).draws or self.invalid in ("random", "random_wrong")):
            options = len(question.options) or len(self.letters)
            chance = 0.0 if self.invalid == "random_wrong" or gold is None else 1 / options
            values = {"strict": score if found.ok else 0.0, "expected": score if found.ok else chance}
        return Grade(score, letter, rule, found.ok, values, note)

    def gold_letter(self, question: Question) -> str | None:
        """The gold as a letter that the extractor can give; None if there is none, then no reply is right."""
        if not question.options:
            return question.gold if isinstance(question.gold, str) and question.gold in tuple(self.letters) else None
        place = gold_place(question)
        return LETTERS[place] if place is not None and LETTERS[place] in self.letters else None

    def _gold_note(self, question: Question, gold: str | None) -> str:
        if question.gold is None or gold is not None:
            return ""
        beyond = gold_place(question) is not None
        return "this scorer does not read the gold's letter" if beyond else "gold is not among the options"

    def _draw_from(self, question: Question, gold: str | None) -> Sequence[str]:
        letters = self.letters[: len(question.options)] if question.options else self.letters
        if self.invalid == "random_wrong":
            letters = "".join(letter for letter in letters if letter != gold) or letters
        return letters


def gold_place(question: Question) -> int | None:
    """The number of the right option, from 0: that of the gold's letter, or of the first option with the gold's text.
    None for any other gold, and for an option beyond the letter Z."""
    gold, options = question.gold, question.options[: len(LETTERS)]
    if not isinstance(gold, str):
        return None
    if len(gold) == 1 and gold in LETTERS[: len(options)]:
        return LETTERS.index(gold)
    return options.index(gold) if gold in options else None


def same_option(question: Question, gold: object) -> bool:
    """Whether `gold` names an option with the text of the right one: some questions have the same option twice, and
    protocols differ in which of the two letters is right."""
    mine = gold_place(question)
    other = gold_place(replace(question, gold=gold)) if isinstance(gold, str) else None
    return mine is not None and other is not None and question.options[mine] == question.options[other]


@dataclass(frozen=True)
class Span:
    """Temporal grounding: a named parser reads a span in seconds, which is compared with the gold span.

    `Grade.values`: `iou`, and `R@<t>` (1 if IoU >= t) for each threshold; `score` is the value named by `headline`. A
    gold span may end after the video, where no prediction can reach it. If `question.meta` has `duration_s`,
    `iou_clip_gold` is the IoU with the gold cut at the video's end, as a diagnostic.
    """

    parser: str
    thresholds: tuple[float, ...] = (0.3, 0.5, 0.7)
    headline: str = "iou"

    def __post_init__(self) -> None:
        span_parser(self.parser)

    def grade(self, question: Question, reply: str) -> Grade:
        span, rule = span_parser(self.parser).parse(reply)
        rule = f"{self.parser}: {rule}"
        if question.gold is None:
            return Grade(None, span, rule, span is not None)
        gold = _gold_span(question)
        values = {"iou": iou(span, gold) if span and gold else 0.0}
        values |= {f"R@{t:g}": float(values["iou"] >= t) for t in self.thresholds}
        duration = question.meta.get("duration_s")
        if duration is not None:
            clipped = (min(gold[0], duration), min(gold[1], duration)) if gold else None
            values["iou_clip_gold"] = iou(span, clipped) if span and clipped else 0.0
        note = "" if gold else "gold is not a span"
        return Grade(values[self.headline], span, rule, span is not None, values, note)


def _gold_span(question: Question) -> Pair | None:
    gold = question.gold
    if isinstance(gold, tuple) and len(gold) == 2 and all(isinstance(t, float | int) for t in gold):
        return gold
    return None


def answer_kind(grader: Grader, question: Question) -> str:
    """What an answer is: choice (an option letter), span (two times) or text. See `Prompt.answer`."""
    if isinstance(grader, Span):
        return "span"
    # The options first: testing for a protocol is slow, and this is asked for each question.
    return "text" if not question.options and isinstance(grader, JudgedGrader) else "choice"


def gold_problem(grader: Grader, question: Question) -> str:
    """Why no reply to this question can be right, or ''."""
    gold, options = question.gold, question.options
    if gold is None:
        return ""
    if isinstance(grader, Span):
        return "" if _gold_span(question) else f"its gold is {gold!r}, not a span (start_s, end_s)"
    if isinstance(grader, Choice) and options:
        if len(options) > len(LETTERS):
            return f"it has {len(options)} options, and the letters A to Z name {len(LETTERS)}"
        if gold_place(question) is None:
            return f"its gold is {gold!r}, neither one of the letters {LETTERS[: len(options)]} nor one of its options"
    return ""


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


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
    zero: Callable[[str], bool] = _never

    def chats(self, question: Question, reply: str) -> list[Messages]:
        return [self.messages(question, reply)]

    def grade(self, question: Question, reply: str) -> Grade:
        """Where the judge cannot be asked, the question stays ungraded: the same command, or rescoring, grades it."""
        if self.judge is None:
            return Grade(None, note="not judged: no judge is set", graded=False)
        try:
            judgement = self.judge.ask(
                self.messages(question, reply), lambda text: self.read(text) is not None or self.zero(text)
            )
        except EvalkitError as error:
            return Grade(None, note=f"not judged: {error}", graded=False)
        scores = self.read(judgement)
        if scores is None:
            note = f"the judge's reply cannot be read: {judgement[:_KEPT_CHARS]!r}"
            if self.zero(judgement):
                return Grade(0.0, None, "judge: none", False, dict.fromkeys(self.total, 0.0), note)
            return Grade(None, None, "judge: none", False, note=f"not judged: {note}", graded=False)
        total = sum(scores[name] for name in self.total)
        return Grade(total, f"{total:g}", "judge: scores", True, dict(scores))
