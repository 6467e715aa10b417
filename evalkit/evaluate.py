"""The evaluation loop: takes a task's videos with their questions, yields prefills and records.

A task gives videos with their questions; the frames of a video are decoded ahead; the model answers all its questions,
from one prefill where it has one; each reply becomes a record. Replies are graded elsewhere (`evalkit.recorder`), so
that the model never waits for a judge.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from queue import SimpleQueue

from evalkit.errors import ModelUnavailable, RunError, SampleError
from evalkit.meter import HostPeak
from evalkit.model import Answers, VideoModel
from evalkit.task import Task
from evalkit.types import (
    Decoding,
    FrameRequest,
    FrameStream,
    Prefill,
    PrefillCost,
    Prompt,
    Question,
    Record,
    Reply,
    Video,
    VideoQuestions,
)
from evalkit.video.identity import identity
from evalkit.video.reader import FrameReader

MOST_UNAVAILABLE = 3
"""Failures of the model itself (a bad key, a dead server), one after another, that stop a run."""

Event = Prefill | Record
"""What the loop yields: for each video its prefill, then a record for each question."""


@dataclass(frozen=True)
class Labels:
    """The names that every record of a run contains."""

    run: str
    model: str
    worker: str = "local"


@dataclass
class Loop:
    """Evaluates a model on a task. The fields are shared by all videos of the run."""

    task: Task
    model: VideoModel
    reader: FrameReader
    request: FrameRequest
    decoding: Decoding
    labels: Labels
    outage: Outage = field(default_factory=lambda: Outage())

    def run(self, items: Iterable[VideoQuestions]) -> Iterator[Event]:
        """Ask the questions of `items`, video by video; yields each record, without a grade, as soon as it is made.
        Items are taken as their decoding begins, a few ahead of the model. Raises RunError where the model is
        unavailable."""
        waiting: deque[VideoQuestions] = deque()

        def wanted() -> Iterator[tuple[Video, FrameRequest]]:
            for item in items:
                waiting.append(item)
                yield item.video, self.request

        opened = ((waiting.popleft(), frames) for frames in self.reader.open_ahead(wanted()))
        if self.model.videos_in_flight > 1:
            yield from _in_threads(self, opened, self.model.videos_in_flight)
        else:
            for item, frames in opened:
                yield from self.ask(item, frames)

    def ask(self, item: VideoQuestions, frames: FrameStream | SampleError) -> Iterator[Event]:
        """Ask all questions of one video. A failure gives failed records for the video, or for the question."""
        if isinstance(frames, SampleError):
            yield from self._failed(item, frames)
            return
        host = HostPeak() if self.model.videos_in_flight == 1 else None  # the process's peak, not one video's
        try:
            context = self.task.context(item, frames)
            prompts = [self._prompt(item, question, frames) for question in item.questions]
            answers = self.model.answer(context, [p for p in prompts if isinstance(p, Prompt)], self.decoding)
        except SampleError as error:
            frames.close()
            yield from self._failed(item, error)
            return
        except BaseException:
            frames.close()
            raise
        try:
            prefill = self._prefill(item, frames, answers)
            yield prefill
            for question, prompt in zip(item.questions, prompts, strict=True):
                started = time.time()
                reply = next(answers.replies, None) if isinstance(prompt, Prompt) else prompt
                assert reply is not None, f"{type(self.model).__name__} gave fewer replies than there were prompts"
                if isinstance(reply, SampleError):
                    yield from self._failed(item, reply, [question], prefill.id)
                    continue
                assert isinstance(prompt, Prompt)
                self.outage.end()
                record = _labelled(self.task, item, question, self.labels, started)
                _fill_reply(record, prompt, reply, prefill)
                record.remarks = [*frames.remarks, *record.remarks]
                record.host_memory_bytes = host.bytes() if host else None
                yield record
        finally:
            answers.close()
            frames.close()

    def _prompt(self, item: VideoQuestions, question: Question, frames: FrameStream) -> Prompt | SampleError:
        """The prompt of a question, or the error that prevents it (subtitles that cannot be read, for example)."""
        try:
            return self.task.prompt(item, question, frames.plan)
        except SampleError as error:
            return error

    def _failed(
        self, item: VideoQuestions, error: SampleError, questions: Iterable[Question] = (), prefill: str | None = None
    ) -> Iterator[Record]:
        """A record for each of the questions (default: all of the video), then RunError if the model is unavailable."""
        for question in questions or item.questions:
            yield failed(self.task, item, question, error, self.labels, prefill)
        self.outage.count(error)

    def _prefill(self, item: VideoQuestions, frames: FrameStream, answers: Answers) -> Prefill:
        cost = answers.prefill or PrefillCost()
        plan, file = asdict(frames.plan), identity(item.video.path)
        seconds = {"video_decode": cost.video_decode_s, "vision": cost.vision_s, "prefill": cost.prefill_s}
        return Prefill(
            id=sha256(repr((item.video.id, file, plan, answers.context)).encode(errors="replace")).hexdigest()[:16],
            video=item.video.id,
            plan=plan,
            decoder=frames.decoder,
            file=file,
            context=answers.context,
            frames=cost.frames,
            tokens=_measured({"visual": cost.visual_tokens, "context": cost.context_tokens}),
            seconds=_rounded(seconds),
            kv_bytes=cost.kv_bytes,
            attention_density=cost.attention_density,
            flops=cost.flops,
            peak_memory_bytes=cost.peak_memory_bytes,
            worker=self.labels.worker,
            started=_now(),
        )


class Outage:
    """Counts failures of the model itself, across all videos in flight."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def end(self) -> None:
        """A question was answered, so the model is available."""
        with self._lock:
            self._count = 0

    def count(self, error: SampleError) -> None:
        """Raises RunError at the last of `MOST_UNAVAILABLE` in a row."""
        if not isinstance(error, ModelUnavailable):
            return
        with self._lock:
            self._count += 1
            if self._count >= MOST_UNAVAILABLE:
                raise RunError(
                    f"{error} The run was stopped after {self._count} failures of this kind in a row; the same "
                    "command continues."
                )


def _in_threads(
    loop: Loop, opened: Iterator[tuple[VideoQuestions, FrameStream | SampleError]], count: int
) -> Iterator[Event]:
    """Up to `count` videos at the same time, each in a thread. What they yield goes through one queue."""
    events: SimpleQueue[Event | BaseException | None] = SimpleQueue()
    taking, stopped = threading.Lock(), threading.Event()

    def work() -> None:
        try:
            while not stopped.is_set():
                with taking:
                    item, frames = next(opened, (None, None))
                if item is None or frames is None:
                    break
                for event in loop.ask(item, frames):
                    events.put(event)
                    if stopped.is_set():
                        break
        except BaseException as error:  # raised again in the thread of the run
            events.put(error)
        finally:
            events.put(None)

    threads = [threading.Thread(target=work, name="video in flight", daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        working = count
        while working:
            event = events.get()
            if isinstance(event, BaseException):
                raise event
            working -= event is None
            if event is not None:
                yield event
    finally:
        stopped.set()


def failed(
    task: Task, item: VideoQuestions, question: Question, error: SampleError, labels: Labels, prefill: str | None = None
) -> Record:
    """The record of a question that could not be asked or answered: no reply, no score, and the cause."""
    record = _labelled(task, item, question, labels, time.time())
    record.status = "failed"
    record.valid = False
    record.error = {"kind": error.kind, "message": str(error)}
    record.prefill = prefill
    return record


def _labelled(task: Task, item: VideoQuestions, question: Question, labels: Labels, started: float) -> Record:
    return Record(
        run=labels.run,
        task=task.name,
        split=task.split,
        protocol=task.protocol_label,
        model=labels.model,
        video=item.video.id,
        question=question.id,
        unit=question.unit,
        cluster=item.cluster,
        groups={name: list(values) for name, values in question.groups.items()},
        gold=list(question.gold) if isinstance(question.gold, tuple) else question.gold,
        status="ungraded",
        question_sha256=question.digest(),
        worker=labels.worker,
        started=_now(started),
    )


def _fill_reply(record: Record, prompt: Prompt, reply: Reply, prefill: Prefill) -> None:
    record.reply = reply.text
    record.finish = reply.finish
    record.remarks = list(reply.remarks)
    record.details = dict(reply.details)
    record.prefill = prefill.id
    record.prompt = reply.prompt if reply.prompt is not None else prompt.text + prompt.answer_prefix
    record.prompt_sha256 = sha256((prefill.context + record.prompt).encode(errors="replace")).hexdigest()
    record.tokens = _measured({"prompt": reply.prompt_tokens, "new": reply.new_tokens})
    record.seconds = _rounded({"question": reply.question_s, "generate": reply.generate_s})
    record.ttft = reply.first_token_s
    record.kv_bytes_used = reply.kv_bytes_used
    record.flops = reply.flops


def _measured(values: dict[str, int | None]) -> dict[str, int]:
    return {name: value for name, value in values.items() if value is not None}


def _rounded(seconds: dict[str, float | None]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in seconds.items() if value is not None}


def _now(at: float | None = None) -> str:
    return datetime.fromtimestamp(time.time() if at is None else at, UTC).isoformat(timespec="milliseconds")
