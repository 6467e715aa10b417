"""The loop.

A task gives videos; the frames of a video are decoded ahead; the model prefills them once and answers every question
from that cache; each answer is graded and becomes one record.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256

from evalkit.errors import DataError, SampleError
from evalkit.meter import HostPeak
from evalkit.model import VideoCache, VideoModel
from evalkit.scoring.grade import ask_ahead
from evalkit.task import Task
from evalkit.types import (
    Decoding,
    FrameRequest,
    FrameStream,
    Grade,
    Prompt,
    Question,
    Record,
    Reply,
    Video,
    VideoQuestions,
)
from evalkit.video.identity import identity
from evalkit.video.reader import FrameReader


@dataclass(frozen=True)
class Labels:
    """What every record of a run carries."""

    run: str
    model: str
    worker: str = "local"


def evaluate(
    task: Task,
    model: VideoModel,
    items: Iterable[VideoQuestions],
    reader: FrameReader,
    request: FrameRequest,
    decoding: Decoding,
    labels: Labels,
) -> Iterator[Record]:
    """Ask the questions of `items`, video by video; yields one record a question as soon as it is answered. Videos are
    taken as their decoding begins, one or a few ahead of the model."""
    decoding_now: deque[VideoQuestions] = deque()

    def wanted() -> Iterator[tuple[Video, FrameRequest]]:
        for item in items:
            decoding_now.append(item)
            yield item.video, request

    for frames in reader.open_ahead(wanted()):
        yield from _ask_video(task, model, decoding_now.popleft(), frames, decoding, labels)


def _ask_video(
    task: Task,
    model: VideoModel,
    item: VideoQuestions,
    frames: FrameStream | SampleError,
    decoding: Decoding,
    labels: Labels,
) -> Iterator[Record]:
    """One prefill, one generation a question. What fails costs this video, or this question, and is marked."""
    if isinstance(frames, SampleError):
        yield from (failed(task, item, question, frames, labels) for question in item.questions)
        return
    host = HostPeak()
    try:
        context = task.context(item, frames)
        cache = model.prefill(context)
    except SampleError as error:
        yield from (failed(task, item, question, error, labels) for question in item.questions)
        return
    finally:
        frames.close()
    sampling = {**asdict(frames.plan), "decoder": frames.decoder, "file": identity(item.video.path)}
    try:
        prompts = [_prompt(task, item, question, frames) for question in item.questions]
        replies = model.answers(cache, [p for p in prompts if isinstance(p, Prompt)], decoding)
        for question, prompt in zip(item.questions, prompts, strict=True):
            started = time.time()
            reply = next(replies) if isinstance(prompt, Prompt) else prompt
            if isinstance(reply, SampleError):
                yield failed(task, item, question, reply, labels)
                continue
            assert isinstance(prompt, Prompt)
            record = _labelled(task, item, question, labels, started)
            _fill_answer(record, task, question, reply)
            _fill_cost(record, cache, reply)
            record.sampling = sampling
            record.prompt = model.rendered(context, prompt)
            record.prompt_sha256 = sha256(record.prompt.encode()).hexdigest()
            record.peak_memory["host"] = host.bytes()
            yield record
    finally:
        cache.close()


def _prompt(task: Task, item: VideoQuestions, question: Question, frames: FrameStream) -> Prompt | SampleError:
    """What is asked, or why it cannot be: subtitles that cannot be read, say."""
    try:
        return task.prompt(item, question, frames.plan)
    except SampleError as error:
        return error


def _labelled(task: Task, item: VideoQuestions, question: Question, labels: Labels, started: float) -> Record:
    return Record(
        run=labels.run,
        task=task.name,
        split=task.split,
        protocol=task.protocol,
        model=labels.model,
        video=item.video.id,
        question=question.id,
        unit=question.unit,
        cluster=item.cluster,
        groups={name: list(values) for name, values in question.groups.items()},
        gold=list(question.gold) if isinstance(question.gold, tuple) else question.gold,
        status="ok",
        question_sha256=question.digest(),
        worker=labels.worker,
        started=datetime.fromtimestamp(started, UTC).isoformat(timespec="milliseconds"),
    )


def failed(task: Task, item: VideoQuestions, question: Question, error: SampleError, labels: Labels) -> Record:
    """A question that could not be asked or answered: no reply, no score, its cause. Never scored from error text."""
    record = _labelled(task, item, question, labels, time.time())
    record.status = "failed"
    record.valid = False
    record.error = {"kind": error.kind, "message": str(error)}
    return record


def _fill_answer(record: Record, task: Task, question: Question, reply: Reply) -> None:
    record.reply = reply.text
    record.finish = reply.finish
    record.remarks = list(reply.notes)
    set_grade(record, task.grade(question, reply.text))


def set_grade(record: Record, grade: Grade) -> None:
    """Put a grade into a record; rescoring does so again."""
    record.extracted = list(grade.extracted) if isinstance(grade.extracted, tuple) else grade.extracted
    record.score = grade.score
    record.values = dict(grade.values)
    record.rule = grade.rule
    record.valid = grade.valid
    record.note = grade.note
    record.status = "ok" if grade.graded else "ungraded"


def regrade(task: Task, record: Record, questions: Mapping[str, Question]) -> Record:
    """The record with its reply graded by `task`; a question that failed stays failed."""
    question = questions.get(record.question)
    if question is None:
        raise DataError(f'{task.benchmark} ({task.split}) has no question "{record.question}": was the data exchanged?')
    groups = {name: list(labels) for name, labels in question.groups.items()}
    record = replace(record, protocol=task.protocol, split=task.split, groups=groups, unit=question.unit)
    if record.status != "failed" and record.reply is not None:
        set_grade(record, task.grade(question, record.reply))
    return record


def regrade_all(task: Task, records: Sequence[Record], questions: Mapping[str, Question]) -> list[Record]:
    """`regrade` of each; a judge is asked several at a time."""
    ask_ahead(task.rules.grader, answers_of(records, questions))
    return [regrade(task, record, questions) for record in records]


def answers_of(records: Sequence[Record], questions: Mapping[str, Question]) -> list[tuple[Question, str]]:
    """The replies that can be graded, each with its question."""
    known = ((questions.get(record.question), record) for record in records if record.status != "failed")
    return [(question, record.reply) for question, record in known if question and record.reply is not None]


def _fill_cost(record: Record, cache: VideoCache, reply: Reply) -> None:
    """The video's cost stands in each of its records; sums over videos count a video once (see `efficiency`)."""
    cost = cache.cost
    record.frames = cost.frames
    record.tokens = {
        "visual": cost.visual_tokens,
        "context": cost.context_tokens,
        "prompt": reply.prompt_tokens,
        "new": reply.new_tokens,
    }
    record.seconds = {
        "video_decode": cost.video_decode_s,
        "vision": cost.vision_s,
        "prefill": cost.prefill_s,
        "question": reply.question_s,
        "generate": reply.generate_s,
    }
    record.seconds = {name: round(seconds, 6) for name, seconds in record.seconds.items()}
    record.ttft = reply.first_token_s
    record.kv_bytes = {"dense": cost.kv_bytes, "used": reply.kv_bytes_used or cost.kv_bytes}
    record.attention_density = cost.attention_density
    flops = {"prefill": cost.flops, "question": reply.flops}
    record.flops = {stage: count for stage, count in flops.items() if count is not None}
    record.dense_chunks = list(reply.dense_chunks) if reply.dense_chunks is not None else None
    record.chunk_frames = reply.chunk_frames
    if cost.peak_memory_bytes is not None:
        record.peak_memory["device"] = cost.peak_memory_bytes
