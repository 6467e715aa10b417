"""Finds the question that a row of a log answers.

In this order: by an id of the task; by video and text; by a text or prompt that only one question has; by frames and
depth in a needle test; by the row's number, if the log holds the whole task. Text, options and right answer in the row
must then agree with the question, because a wrong match would give a plausible but wrong score.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from evalkit.import_log.logged_question import (
    LoggedQuestion,
    has_options,
    has_options_in_order,
    plain,
    same_gold,
    same_number,
    same_options,
    same_text,
    stem,
    whole_number,
)
from evalkit.import_log.logs import LogRow
from evalkit.types import Question, VideoQuestions

IDS = ("question_id", "questionID", "uid", "qid", "id", "uuid")
PLACES = ("doc_id", "index")


@dataclass(frozen=True)
class Contradiction:
    """A row that was matched to `question` and differs from it in `about`: its text, its options or the right
    answer."""

    row: LogRow
    question: Question
    about: str


@dataclass
class Matches:
    """Which row answers which question.

    `replies`: question id -> its first row. `unmatched`: rows without a question. `contradicting`: rows whose columns
    differ from their question. `repeated`: a question's first row, and a later one with another reply.
    """

    replies: dict[str, LogRow] = field(default_factory=dict)
    unmatched: list[LogRow] = field(default_factory=list)
    contradicting: list[Contradiction] = field(default_factory=list)
    repeated: list[tuple[LogRow, LogRow]] = field(default_factory=list)


class QuestionMatcher:
    """Finds the questions of a task from the columns of a log's rows. `order`: the questions' ids in the order of the
    data, where that is not the order of the videos."""

    def __init__(self, items: Sequence[VideoQuestions], order: Sequence[str] = ()) -> None:
        self.ids = {q.id: q for item in items for q in item.questions}
        self.order = [self.ids[id] for id in order or self.ids if id in self.ids]
        self.texts: dict[tuple[str, str], list[Question]] = defaultdict(list)
        self.anywhere: dict[str, list[Question]] = defaultdict(list)
        self.videos: dict[str, list[Question]] = defaultdict(list)
        self.needles: dict[tuple[float, float], list[Question]] = defaultdict(list)
        self.item_of = {q.id: item for item in items for q in item.questions}
        for item in items:
            video = item.video
            called = (video.id, video.path.name, item.cluster, str(item.meta.get("video_id", video.id)))
            names = {stem(name) for name in called}
            for q in item.questions:
                self.anywhere[plain(q.text)].append(q)
                if video.composite is not None and video.composite.image is not None:
                    for depth in {video.composite.depth, 100 * video.composite.depth}:  # as a share, or in percent
                        self.needles[video.composite.frames, depth].append(q)
                for name in names:
                    self.texts[name, plain(q.text)].append(q)
                    self.videos[name].append(q)

    def match(self, log: Sequence[LogRow]) -> Matches:
        rows = [(row, LoggedQuestion.of(row.values)) for row in log]
        places = self._places_of(rows)
        found = self._found(rows, self._id_column(rows), places)
        if not any(found) and places and all(_agrees(logged, q) for (_, logged), q in zip(rows, places, strict=True)):
            found = [*places]
        matches = Matches()
        for (row, logged), question in zip(rows, found, strict=True):
            if question is None:
                matches.unmatched.append(row)
            elif about := contradiction(logged, question):
                matches.contradicting.append(Contradiction(row, question, about))
            elif question.id not in matches.replies:
                matches.replies[question.id] = row
            elif matches.replies[question.id].reply != row.reply:
                matches.repeated.append((matches.replies[question.id], row))
        return matches

    def _id_column(self, rows: Sequence[tuple[LogRow, LoggedQuestion]]) -> str | None:
        """The column with the task's ids: the one with the most known ids, if most of its rows agree with the questions
        of these ids. Row numbers can look like ids; their rows contradict the questions."""
        best, most = None, 0
        for column in IDS:
            pairs = [(logged, q) for row, logged in rows if (q := self._by_id(row, column)) is not None]
            wrong = sum(contradiction(logged, question) is not None for logged, question in pairs)
            if len(pairs) > most and 2 * wrong < len(pairs):
                best, most = column, len(pairs)
        return best

    def _by_id(self, row: LogRow, column: str) -> Question | None:
        value = row.values.get(column)
        if isinstance(value, float) and value.is_integer():  # tables turn whole numbers into floats
            value = int(value)
        return None if value is None else self.ids.get(str(value)) or self.ids.get(stem(str(value)))

    def _found(
        self, rows: Sequence[tuple[LogRow, LoggedQuestion]], column: str | None, places: Sequence[Question]
    ) -> list[Question | None]:
        """The question of each row. Rows that cannot be told apart take their questions in order; the same document
        again (lmms-eval pads the ranks) takes the same question."""
        taken: dict[tuple[str, ...], int] = {}
        documents: dict[tuple[str, str, tuple[str, ...]], Question] = {}
        found: list[Question | None] = []
        for number, (row, logged) in enumerate(rows):
            question = self._by_id(row, column) if column else None
            if question is None:
                candidates = self._candidates(logged)
                if places and places[number] in candidates:
                    candidates = [places[number]]
                key = tuple(q.id for q in candidates)
                document = (str(row.path), str(row.values.get("doc_id", f"row {row.number}")), key)
                question = documents.get(document)
                if question is None and (question := self._next(candidates, taken.get(key, 0))):
                    taken[key] = taken.get(key, 0) + 1
                    documents[document] = question
            found.append(question)
        return found

    def _next(self, candidates: Sequence[Question], taken: int) -> Question | None:
        """Of several candidates the next in order, if the choice changes no score; else None."""
        if len({(q.gold, q.options, self.item_of[q.id].video.path) for q in candidates}) > 1:
            return None
        return candidates[taken % len(candidates)] if candidates else None

    def _candidates(self, logged: LoggedQuestion) -> list[Question]:
        """The questions that a row may answer. A question that the row names and contradicts is returned too, and
        reported later; no other is searched for."""
        for candidates in self._looked_up(logged):
            fitting = [q for q in candidates if contradiction(logged, q) is None]
            for narrows in (self._same_part, has_options_in_order, same_number, has_options):
                if len(fitting) > 1:
                    fitting = [q for q in fitting if narrows(logged, q)] or fitting
            if candidates:
                return fitting or candidates[:1]
        return []

    def _same_part(self, logged: LoggedQuestion, question: Question) -> bool:
        """Whether the row names the part of the video that the question is about."""
        video = self.item_of[question.id].video
        if logged.span is None or video.start_s is None or video.end_s is None:
            return False
        return abs(video.start_s - logged.span[0]) < 0.05 and abs(video.end_s - logged.span[1]) < 0.05

    def _looked_up(self, logged: LoggedQuestion) -> Iterator[list[Question]]:
        """Lists of questions to search, the most certain first: by video and text, by video and a longer text or
        prompt, by text alone, by frames and depth of a needle."""
        known = [name for name in logged.videos if name in self.videos]
        for name in known if logged.text else ():
            yield self.texts.get((name, logged.text or ""), [])
        for name in known:
            inside = [q for q in self.videos[name] if any(plain(q.text) in text for text in logged.texts)]
            longest = max((len(plain(q.text)) for q in inside), default=0)
            yield [q for q in inside if len(plain(q.text)) == longest > 0]
        if not logged.videos:
            if logged.text:
                yield self.anywhere.get(logged.text, [])
            for block in logged.blocks():
                yield self.anywhere.get(block, [])
        if logged.needle is not None and not logged.texts:
            yield self.needles.get(logged.needle, [])

    def _places_of(self, rows: Sequence[tuple[LogRow, LoggedQuestion]]) -> list[Question]:
        """The questions of the rows by their document numbers. Empty unless the log numbers the whole task, no row
        contradicts its question, and the right answers differ, so that a wrong order would show."""
        if len({str(q.gold) for q in self.order}) < 2:
            return []
        for column in PLACES:
            numbers = [whole_number(row.values.get(column)) for row, _ in rows]
            if {*numbers} == {*range(len(self.order))}:
                found = [self.order[n] for n in numbers if n is not None]
                if all(self._may_be(logged, q) for (_, logged), q in zip(rows, found, strict=True)):
                    return found
        return []

    def _may_be(self, logged: LoggedQuestion, question: Question) -> bool:
        named = [name for name in logged.videos if name in self.videos]
        here = not named or any(question in self.videos[name] for name in named)
        return here and contradiction(logged, question) is None


def contradiction(logged: LoggedQuestion, question: Question) -> str | None:
    """Which part of the question the row contradicts; None if it agrees."""
    checks: tuple[tuple[Callable[[LoggedQuestion, Question], bool | None], str], ...] = (
        (same_text, "its text"),
        (same_options, "its options"),
        (same_gold, "the right answer"),
    )
    return next((about for check, about in checks if check(logged, question) is False), None)


def _agrees(logged: LoggedQuestion, question: Question) -> bool:
    return same_gold(logged, question) is True and contradiction(logged, question) is None
