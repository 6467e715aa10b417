"""Which question a logged row answers.

In this order: by an id that is the task's; by video and text; by a text or prompt that only one question has; by the
cell of a needle test's grid; by its place, where the log holds the whole task. Whatever else the row says of its
question (text, options, right answer) must agree with the question found: a wrong match would give a number that looks
right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from evalkit.import_log.logs import Logged
from evalkit.import_log.sayings import Saying, has_options, plain, same_gold, same_options, same_text, stem
from evalkit.types import Question, VideoQuestions

IDS = ("question_id", "questionID", "uid", "qid", "id", "uuid")
PLACES = ("doc_id", "index")


@dataclass(frozen=True)
class Contradiction:
    """A row that was found to answer `question`, and what it says otherwise."""

    row: Logged
    question: Question
    about: str


@dataclass
class Joined:
    """Question id -> reply, and what did not fit. `repeated`: first row of a question, and one that
    answers it again and differently."""

    replies: dict[str, Logged] = field(default_factory=dict)
    unmatched: list[Logged] = field(default_factory=list)
    contradicting: list[Contradiction] = field(default_factory=list)
    repeated: list[tuple[Logged, Logged]] = field(default_factory=list)


class Joiner:
    """The questions of a task, by everything that a log may call them. `order`: their ids as they stand in the data,
    where that is not the order of the videos."""

    def __init__(self, items: Sequence[VideoQuestions], order: Sequence[str] = ()) -> None:
        self.ids = {q.id: q for item in items for q in item.questions}
        self.order = [self.ids[id] for id in order or self.ids if id in self.ids]
        self.texts: dict[tuple[str, str], list[Question]] = defaultdict(list)
        self.anywhere: dict[str, list[Question]] = defaultdict(list)
        self.videos: dict[str, list[Question]] = defaultdict(list)
        self.cells: dict[tuple[float, float], list[Question]] = defaultdict(list)
        self.item_of = {q.id: item for item in items for q in item.questions}
        for item in items:
            video = item.video
            called = (video.id, video.path.name, item.cluster, str(item.meta.get("video_id", video.id)))
            names = {stem(name) for name in called}
            for q in item.questions:
                self.anywhere[plain(q.text)].append(q)
                if video.composite is not None and video.composite.image is not None:
                    for depth in {video.composite.depth, 100 * video.composite.depth}:  # as a share, or in percent
                        self.cells[video.composite.frames, depth].append(q)
                for name in names:
                    self.texts[name, plain(q.text)].append(q)
                    self.videos[name].append(q)

    def join(self, logged: Sequence[Logged]) -> Joined:
        """Each question's first reply."""
        rows = [(row, Saying.of(row.values)) for row in logged]
        places = self._places_of(rows)
        found = self._found(rows, self._id_column(rows), places)
        if not any(found) and places and all(_states(saying, q) for (_, saying), q in zip(rows, places, strict=True)):
            found = [*places]
        out = Joined()
        for (row, saying), question in zip(rows, found, strict=True):
            if question is None:
                out.unmatched.append(row)
            elif about := contradiction(saying, question):
                out.contradicting.append(Contradiction(row, question, about))
            elif question.id not in out.replies:
                out.replies[question.id] = row
            elif out.replies[question.id].reply != row.reply:
                out.repeated.append((out.replies[question.id], row))
        return out

    def _id_column(self, rows: Sequence[tuple[Logged, Saying]]) -> str | None:
        """The column of ids that are the task's: it has the most known ones, and what its rows say of them agrees for
        the most part. Numbers of rows may look like ids, and then contradict."""
        best, most = None, 0
        for column in IDS:
            pairs = [(saying, q) for row, saying in rows if (q := self._called(row, column)) is not None]
            wrong = sum(contradiction(saying, question) is not None for saying, question in pairs)
            if len(pairs) > most and 2 * wrong < len(pairs):
                best, most = column, len(pairs)
        return best

    def _called(self, row: Logged, column: str) -> Question | None:
        value = row.values.get(column)
        if isinstance(value, float) and value.is_integer():  # as tables make of whole numbers
            value = int(value)
        return None if value is None else self.ids.get(str(value)) or self.ids.get(stem(str(value)))

    def _found(
        self, rows: Sequence[tuple[Logged, Saying]], column: str | None, places: Sequence[Question]
    ) -> list[Question | None]:
        """The question of each row, one by one. Rows that cannot be told apart take their questions in order; the
        same document again (ranks are padded) takes the same."""
        taken: dict[tuple[str, ...], int] = {}
        documents: dict[tuple[str, str, tuple[str, ...]], Question] = {}
        found: list[Question | None] = []
        for number, (row, saying) in enumerate(rows):
            question = self._called(row, column) if column else None
            if question is None:
                candidates = self._candidates(saying)
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
        """Of several candidates, the next in order if it makes no difference to a score; else none."""
        if len({(q.gold, q.options, self.item_of[q.id].video.path) for q in candidates}) > 1:
            return None
        return candidates[taken % len(candidates)] if candidates else None

    def _candidates(self, saying: Saying) -> list[Question]:
        """The questions that a row may answer. Where it names one and contradicts it, that one: it will be reported,
        and no other is looked for."""
        for candidates in self._looked_up(saying):
            fitting = [q for q in candidates if contradiction(saying, q) is None]
            for narrower in (self._same_part, has_options):
                if len(fitting) > 1:
                    fitting = [q for q in fitting if narrower(saying, q)] or fitting
            if candidates:
                return fitting or candidates[:1]
        return []

    def _same_part(self, saying: Saying, question: Question) -> bool:
        """Whether the row names the part of the video that the question is about."""
        video = self.item_of[question.id].video
        if saying.span is None or video.start_s is None or video.end_s is None:
            return False
        return abs(video.start_s - saying.span[0]) < 0.05 and abs(video.end_s - saying.span[1]) < 0.05

    def _looked_up(self, saying: Saying) -> Iterator[list[Question]]:
        """Where to look, the surest first: video and text, video and a longer text or prompt, the text alone."""
        known = [name for name in saying.videos if name in self.videos]
        for name in known if saying.text else ():
            yield self.texts.get((name, saying.text or ""), [])
        for name in known:
            inside = [q for q in self.videos[name] if any(plain(q.text) in text for text in saying.texts)]
            longest = max((len(plain(q.text)) for q in inside), default=0)
            yield [q for q in inside if len(plain(q.text)) == longest > 0]
        if not saying.videos:
            if saying.text:
                yield self.anywhere.get(saying.text, [])
            for block in saying.blocks():
                yield self.anywhere.get(block, [])
        if saying.cell is not None and not saying.texts:
            yield self.cells.get(saying.cell, [])

    def _places_of(self, rows: Sequence[tuple[Logged, Saying]]) -> list[Question]:
        """The questions of the rows by the numbers of their documents. Empty unless the log numbers the whole task,
        nothing that any row says contradicts, and a wrong order would have been noticed, as right answers differ."""
        if len({str(q.gold) for q in self.order}) < 2:
            return []
        for column in PLACES:
            numbers = [_number(row.values.get(column)) for row, _ in rows]
            if {*numbers} == {*range(len(self.order))}:
                found = [self.order[n] for n in numbers if n is not None]
                if all(self._may_be(saying, q) for (_, saying), q in zip(rows, found, strict=True)):
                    return found
        return []

    def _may_be(self, saying: Saying, question: Question) -> bool:
        named = [name for name in saying.videos if name in self.videos]
        here = not named or any(question in self.videos[name] for name in named)
        return here and contradiction(saying, question) is None


def contradiction(saying: Saying, question: Question) -> str | None:
    """What a row says otherwise of a question; None where all it says agrees."""
    checks: tuple[tuple[Callable[[Saying, Question], bool | None], str], ...] = (
        (same_text, "its text"),
        (same_options, "its options"),
        (same_gold, "the right answer"),
    )
    return next((about for check, about in checks if check(saying, question) is False), None)


def _states(saying: Saying, question: Question) -> bool:
    return same_gold(saying, question) is True and contradiction(saying, question) is None


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
