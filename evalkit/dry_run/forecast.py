"""Estimates what a command would cost: frames, tokens, KV bytes, operations and time. Nothing is evaluated, and no run
folder is made.

Of a video only the header is read, and all headers together take at most `HEADERS_S`. A video that was not reached in
this time, states no length or does not exist yet gets its annotated length, and is not counted as known.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from evalkit.errors import SampleError
from evalkit.job import Plan, limited
from evalkit.model import Estimate, Estimator, QuestionEstimate
from evalkit.runs import RunFolder
from evalkit.scoring.grade import JudgedGrader
from evalkit.task import Task
from evalkit.types import FramePlan, FrameRequest, Video, VideoQuestions
from evalkit.video.composite import composite_plan
from evalkit.video.header import Header, read_headers
from evalkit.video.info import VideoInfo
from evalkit.video.sampling import sample

HEADERS_S = 0.8
"""Seconds that reading the headers of all videos may take."""

UNKNOWN_FPS, UNKNOWN_S = 30.0, 600.0
"""Used where neither the header, nor the annotations, nor other videos of the benchmark give a value."""


@dataclass(frozen=True)
class Length:
    """The length of a video. `exact`: decoding it will give the same number of frames."""

    info: VideoInfo
    exact: bool


class Lengths:
    """Lengths of videos, from their headers or else from the annotations."""

    def __init__(self, videos: Sequence[Video], seconds: float = HEADERS_S) -> None:
        self.read = read_headers(tuple((video.path, video.fps) for video in videos), seconds)
        infos = [header.info for header in self.read.values() if isinstance(header, Header)]
        annotated = [video.duration_s for video in videos if video.duration_s]
        self.fps = median(info.native_fps for info in infos) if infos else UNKNOWN_FPS
        self.seconds = fmean(annotated or [info.duration_s for info in infos] or [UNKNOWN_S])

    def of(self, video: Video) -> Length:
        """The length of one video. Raises VideoError for a file that exists and cannot be read."""
        header = self.read.get(video.path)
        if isinstance(header, Header):
            return Length(header.info, header.exact)
        if header is not None and header.kind not in ("missing", "unknown"):
            raise header
        seconds = max(video.duration_s or self.seconds, video.end_s or 0.0)
        fps = video.fps or self.fps
        return Length(VideoInfo(max(1, round(seconds * fps)), fps, seconds, 0, 0, "", 0), False)

    def missing(self, videos: Sequence[Video]) -> int:
        """How many of these videos do not exist."""
        return sum(not isinstance(self.read.get(video.path), Header) and not video.path.exists() for video in videos)


class PlannedFrames:
    """A `FrameStream` that has a frame plan and no frames."""

    decode_seconds, decoder = 0.0, ""
    remarks: tuple[str, ...] = ()

    def __init__(self, plan: FramePlan) -> None:
        self.plan = plan

    def batches(self, size: int) -> Iterator[np.ndarray]:
        raise AssertionError("a dry run decodes no frames")

    def close(self) -> None:
        """Does nothing: no file is open."""


@dataclass(frozen=True)
class VideoForecast:
    """The forecast of one video.

    `frames`: how many are read. `video_s`: seconds of the file that are decoded. `known`: `frames` is that of the run.
    `exact`: tokens and KV bytes are too. `estimate`: None for a model that gives none. `failure`: why all questions of
    the video would fail.
    """

    item: VideoQuestions
    frames: int = 0
    video_s: float = 0.0
    known: bool = False
    exact: bool = False
    estimate: Estimate | None = None
    failure: SampleError | None = None

    def questions(self) -> Iterator[QuestionEstimate]:
        """The estimates of the questions that would be answered."""
        if self.estimate is not None:
            yield from (q for q in self.estimate.questions if isinstance(q, QuestionEstimate))

    def used_shares(self) -> Iterator[float]:
        """For each question, the KV bytes that it reads as a share of those of its video."""
        if self.estimate is not None and self.estimate.kv_bytes:
            yield from (q.kv_bytes_used / self.estimate.kv_bytes for q in self.questions() if q.kv_bytes_used)

    def failures(self) -> list[SampleError]:
        """One error for each question that would fail."""
        if self.failure is not None:
            return [self.failure] * len(self.item.questions)
        return [q for q in self.estimate.questions if isinstance(q, SampleError)] if self.estimate is not None else []


@dataclass
class Forecast:
    """The forecast of one run, in values that JSON can hold. Totals are over the questions that are not answered yet;
    means are over videos (`visual_tokens`, `kv_bytes`, ...) or questions (`prompt_tokens`, `kv_bytes_used`, ...). None:
    not known."""

    title: str
    run: str
    answered: int
    videos: int
    questions: int
    video_hours: float
    frames: int
    known: int  # videos whose number of frames is known
    exact: int  # videos whose tokens and KV bytes are those of the run
    missing: int
    failing: int  # questions
    failure: str | None
    new_tokens: int  # a question, at most
    visual_tokens: float | None = None
    context_tokens: float | None = None
    prompt_tokens: float | None = None
    attention_density: float | None = None
    kv_bytes: float | None = None
    kv_bytes_largest: int | None = None
    kv_bytes_used: float | None = None
    kv_used_share: float | None = None  # of the question's dense KV cache
    peak_device_bytes: int | None = None
    dollars: float | None = None  # at most
    flops: dict[str, float] = field(default_factory=dict)  # {vision, prefill, questions}
    hours: dict[str, float] = field(default_factory=dict)  # {compute, video_decoding, total}
    throughput: dict[str, float] = field(default_factory=dict)  # {tflops, video_speed}
    judge: dict[str, Any] | None = None  # {requests (at most), model ("" for none), max_calls}; None: needs no judge
    remarks: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def forecast(plan: Plan) -> Forecast:
    """Estimate what `job.run(plan)` has still to do. Raises the errors that it would raise before its first answer."""
    with _no_garbage_collection():
        return _forecast(plan)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A dry run keeps almost every object that it makes: collections find nothing and take a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _forecast(plan: Plan) -> Forecast:
    data = plan.source.open(plan.task)
    items = limited(plan.task.read(data), plan.config.limit)
    run = RunFolder(Path(plan.config.results), plan.task.name, plan.model_id, plan.identity()).look()
    pending = run.pending(items)
    videos = [item.video for item in pending]
    lengths = Lengths(videos)
    estimator = plan.model.estimator()
    out = _totals(plan, run, [forecast_video(plan, estimator, lengths, item) for item in pending])
    out.judge = _judge_requests(plan.task, pending)
    out.answered = sum(len(item.questions) for item in items) - out.questions
    out.missing = lengths.missing(videos)
    out.remarks += (
        estimator.remarks if estimator else ["this model does not say what it costs: only frames are counted"]
    )
    return out


def _judge_requests(task: Task, items: Sequence[VideoQuestions]) -> dict[str, Any] | None:
    """`Forecast.judge`. The number of requests is an upper limit, because equal requests are sent once."""
    grader = task.rules.grader
    if not isinstance(grader, JudgedGrader):
        return None
    requests = sum(len(grader.chats(question, "")) for item in items for question in item.questions)
    judge = grader.judge.settings if grader.judge else None
    return {"requests": requests, "model": judge.model if judge else "", "max_calls": judge.max_calls if judge else 0}


def forecast_video(plan: Plan, estimator: Estimator | None, lengths: Lengths, item: VideoQuestions) -> VideoForecast:
    """Take the steps of the evaluation loop for one video, with estimates in place of the model."""
    try:
        length = lengths.of(item.video)
        frames = frames_read(item.video, plan.model.frames_wanted(), length.info)
        video_s = decoded_s(item.video, length.info)
        if estimator is None:
            return VideoForecast(item, len(frames), video_s, length.exact)
        context = plan.task.context(item, PlannedFrames(frames))
        prompts = [plan.task.prompt(item, question, frames) for question in item.questions]
        estimate = estimator.estimate(context, prompts, plan.decoding)
        return VideoForecast(item, len(frames), video_s, length.exact, length.exact and estimator.exact, estimate)
    except SampleError as error:
        return VideoForecast(item, failure=error)


_sample = lru_cache(maxsize=16)(sample)
"""Videos without a known length are all taken to be equally long: their frames are chosen once."""


def frames_read(video: Video, request: FrameRequest, info: VideoInfo) -> FramePlan:
    """The frame plan of a video. Raises VideoError."""
    if video.composite is not None:
        return composite_plan(video.path, info, video.composite, request)[0]
    return _sample(request, info.frame_count, info.native_fps, video.start_s, video.end_s)


def decoded_s(video: Video, info: VideoInfo) -> float:
    """Seconds of the file that are decoded."""
    return min(video.end_s or info.duration_s, info.duration_s) - min(video.start_s or 0.0, info.duration_s)


def _totals(plan: Plan, run: RunFolder, videos: Sequence[VideoForecast]) -> Forecast:
    task = plan.task
    estimates = [f.estimate for f in videos if f.estimate is not None]
    questions = [q for f in videos for q in f.questions()]
    failures = [failure for f in videos for failure in f.failures()]
    out = Forecast(
        title=f"{task.benchmark} ({task.split}, protocol {task.protocol_label}) with {plan.model_id}",
        run=str(run.path),
        answered=0,
        videos=len(videos),
        questions=sum(len(f.item.questions) for f in videos),
        video_hours=sum(f.video_s for f in videos) / 3600,
        frames=sum(f.frames for f in videos),
        known=sum(f.known for f in videos),
        exact=sum(f.exact for f in videos),
        missing=0,
        failing=len(failures),
        failure=str(failures[0]) if failures else None,
        new_tokens=plan.decoding.max_new_tokens,
        visual_tokens=_mean([e.visual_tokens for e in estimates]),
        context_tokens=_mean([e.context_tokens for e in estimates]),
        prompt_tokens=_mean([q.prompt_tokens for q in questions]),
        attention_density=_mean([e.attention_density for e in estimates]),
        kv_bytes=_mean([e.kv_bytes for e in estimates]),
        kv_bytes_largest=max((e.kv_bytes for e in estimates if e.kv_bytes is not None), default=None),
        kv_bytes_used=_mean([q.kv_bytes_used for q in questions]),
        kv_used_share=_mean([share for f in videos for share in f.used_shares()]),
        peak_device_bytes=max((e.peak_memory_bytes for e in estimates if e.peak_memory_bytes), default=None),
        throughput=asdict(plan.config.throughput),
        remarks=list(plan.model.remarks()),
    )
    priced = [q.dollars for q in questions if q.dollars is not None]
    out.dollars = sum(priced) if priced else None
    out.flops = {
        "vision": sum(e.vision_flops or 0.0 for e in estimates),
        "prefill": sum(e.prefill_flops or 0.0 for e in estimates),
        "questions": sum(q.flops or 0.0 for q in questions),
    }
    compute = sum(out.flops.values()) / (plan.config.throughput.tflops * 1e12) / 3600
    decoding = out.video_hours / plan.config.throughput.video_speed
    out.hours = {"compute": compute, "video_decoding": decoding, "total": max(compute, decoding)}
    return out


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
