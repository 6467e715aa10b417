"""Writes replies and their grades to the run folder while the model works.

A grade that takes no time is written with the reply. For a judge, the reply is written first; the judge is asked from
other threads, and its grade is written as a second line of the question. A run that was killed before the second line
grades the reply when it is continued.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from multiprocessing.pool import ThreadPool

from evalkit.errors import DataError
from evalkit.runs import RunFolder
from evalkit.scoring.grade import Grader, JudgedGrader
from evalkit.task import Task
from evalkit.types import Grade, Prefill, Question, Record


class Recorder:
    """Writes the prefills and records that the loop yields. `written` is called with each record in its final form, one
    at a time. Use it as a context manager; leaving it does not wait for a judge."""

    def __init__(
        self, task: Task, folder: RunFolder, questions: Mapping[str, Question], written: Callable[[Record], None]
    ) -> None:
        self.task, self.folder, self.questions, self.written = task, folder, questions, written
        self._lock = threading.RLock()
        self._pool = ThreadPool(judges(task.rules.grader)) if judges(task.rules.grader) else None
        self._left: list[Record] = []  # replies that a judge has not graded
        self._error: BaseException | None = None
        self._changed = threading.Condition(self._lock)

    def add(self, event: Prefill | Record) -> None:
        """Write a prefill or a record, graded if that takes no time. Raises RunError where it cannot be written."""
        self._raise()
        if isinstance(event, Record) and event.reply is not None and self._pool is None:
            event = grade(self.task, event, self.questions[event.question])
        with self._lock:
            self.folder.append(event)
            if isinstance(event, Prefill):
                return
            if event.reply is None or self._pool is None:
                self.written(event)
                return
        self._judge(event)

    def grade_waiting(self, records: Iterable[Record]) -> None:
        """Grade replies that were written without a grade."""
        for record in records:
            if self._pool is not None:
                self._judge(record)
            elif (graded := grade(self.task, record, self.questions[record.question])).status == "ok":
                self._write(graded)

    def wait(self) -> None:
        """Wait until a judge has graded all replies. Can be interrupted."""
        with self._changed:
            while self._left and self._error is None:
                self._changed.wait(timeout=1.0)
        self._raise()

    @property
    def waiting(self) -> int:
        """Replies that a judge has not graded yet."""
        return len(self._left)

    def _judge(self, record: Record) -> None:
        assert self._pool is not None
        with self._lock:
            self._left.append(record)
        self._pool.apply_async(self._graded_by_judge, (record,))

    def _graded_by_judge(self, record: Record) -> None:
        """Runs in a thread of the pool."""
        try:
            self._write(grade(self.task, record, self.questions[record.question]))
        except BaseException as error:  # raised again in the thread of the run
            with self._lock:
                self._error = self._error or error
        finally:
            with self._changed:
                self._left.remove(record)
                self._changed.notify_all()

    def _write(self, record: Record) -> None:
        with self._lock:
            self.folder.append(record)
            self.written(record)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._pool is not None:
            stop_judge(self.task.rules.grader)
            self._pool.terminate()


def judges(grader: Grader) -> int:
    """How many requests are sent to a judge at a time; 0 without a judge."""
    return grader.judge.settings.workers if isinstance(grader, JudgedGrader) and grader.judge is not None else 0


def stop_judge(grader: Grader) -> None:
    """End the requests that have been sent to the judge."""
    if isinstance(grader, JudgedGrader) and grader.judge is not None:
        grader.judge.stop()


def grade(task: Task, record: Record, question: Question) -> Record:
    """The record with its reply graded; one without a reply stays as it is."""
    if record.status == "failed" or record.reply is None:
        return record
    return _with_grade(record, task.grade(question, record.reply))


def _with_grade(record: Record, given: Grade) -> Record:
    return replace(
        record,
        extracted=list(given.extracted) if isinstance(given.extracted, tuple) else given.extracted,
        score=given.score,
        values=dict(given.values),
        rule=given.rule,
        valid=given.valid,
        note=given.note,
        status="ok" if given.graded else "ungraded",
    )


def regrade(task: Task, records: Sequence[Record], questions: Mapping[str, Question]) -> list[Record]:
    """Grade stored replies again under `task`, in their order; a judge gets several at a time. Raises DataError for a
    record whose question is not in the data."""
    renewed = []
    for record in records:
        question = questions.get(record.question)
        if question is None:
            raise DataError(
                f'{task.benchmark} ({task.split}) has no question "{record.question}": was the data replaced?'
            )
        groups = {name: list(labels) for name, labels in question.groups.items()}
        renewed.append(
            replace(record, protocol=task.protocol_label, split=task.split, groups=groups, unit=question.unit)
        )
    pairs = [(task, record, questions[record.question]) for record in renewed]
    if not (count := judges(task.rules.grader)):
        return [grade(*pair) for pair in pairs]
    with ThreadPool(count) as pool:  # not an executor, which cannot be interrupted before all its requests have ended
        return pool.starmap(grade, pairs, chunksize=1)
