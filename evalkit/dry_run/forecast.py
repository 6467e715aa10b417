"""`dry_run=true`: what a command would take, before it is paid for. Nothing is evaluated and no run is begun.

Videos are opened for their headers alone, and only for a moment: those that are not reached, say nothing of their
length or are not there yet are taken to be as long as the annotations say, and counted as estimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
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
"""How long videos are looked at."""

UNKNOWN_FPS, UNKNOWN_S = 30.0, 600.0
"""Taken where neither the file nor the annotations, nor other videos of the benchmark, say more."""


@dataclass(frozen=True)
class Length:
    """How long a video is; `exact` where reading its frames will find the same."""

    info: VideoInfo
    exact: bool


class Lengths:
    """Lengths of videos, as the files tell or as the annotations have it."""

    def __init__(self, videos: Sequence[Video], seconds: float = HEADERS_S) -> None:
        self.read = read_headers(tuple((video.path, video.fps) for video in videos), seconds)
        known = [header.info for header in self.read.values() if isinstance(header, Header)]
        stated = [video.duration_s for video in videos if video.duration_s]
        self.fps = median(info.native_fps for info in known) if known else UNKNOWN_FPS
        self.seconds = fmean(stated or [info.duration_s for info in known] or [UNKNOWN_S])

    def of(self, video: Video) -> Length:
        """Raises VideoError for a file that is there and cannot be read."""
        header = self.read.get(video.path)
        if isinstance(header, Header):
            return Length(header.info, header.exact)
        if header is not None and header.kind not in ("missing", "unknown"):
            raise header
        seconds = max(video.duration_s or self.seconds, video.end_s or 0.0)
        fps = video.fps or self.fps
        return Length(VideoInfo(max(1, round(seconds * fps)), fps, seconds, 0, 0, "", 0), False)

    def missing(self, videos: Sequence[Video]) -> int:
        return sum(not isinstance(self.read.get(video.path), Header) and not video.path.exists() for video in videos)


class Planned:
    """A `FrameStream` with a plan and no frames."""

    decode_seconds, decoder = 0.0, ""
    remarks: tuple[str, ...] = ()

    def __init__(self, plan: FramePlan) -> None:
        self.plan = plan

    def batches(self, size: int) -> Iterator[np.ndarray]:
        raise AssertionError("a dry run reads no frames")

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class VideoForecast:
    """One video: its frames, what they cost (None: the model does not tell), or why it would fail."""

    item: VideoQuestions
    frames: int = 0
    video_s: float = 0.0
    known: bool = False
    exact: bool = False
    estimate: Estimate | None = None
    failure: SampleError | None = None

    def questions(self) -> Iterator[QuestionEstimate]:
        """Those that would be answered."""
        if self.estimate is not None:
            yield from (q for q in self.estimate.questions if isinstance(q, QuestionEstimate))

    def used_shares(self) -> Iterator[float]:
        """KV bytes that a question uses, of the video's."""
        if self.estimate is not None:
            yield from (q.kv_bytes_used / self.estimate.kv_bytes for q in self.questions() if q.kv_bytes_used)

    def failures(self) -> list[SampleError]:
        """One for each question that would not."""
        if self.failure is not None:
            return [self.failure] * len(self.item.questions)
        return [q for q in self.estimate.questions if isinstance(q, SampleError)] if self.estimate is not None else []


@dataclass
class Forecast:
    """One run in numbers, plain enough for JSON. Totals are over what is left to ask; means are over videos
    (`visual_tokens`, `kv_bytes`, ...) or questions (`prompt_tokens`, `kv_bytes_used`, ...). None: not known."""

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
    flops: dict[str, float] = field(default_factory=dict)  # {vision, prefill, questions}
    hours: dict[str, float] = field(default_factory=dict)  # {compute, video_decoding, total}
    throughput: dict[str, float] = field(default_factory=dict)  # {tflops, video_speed}
    judge: dict[str, Any] | None = None  # {requests (at most), model ("" for none), max_calls}; None: needs no judge
    remarks: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def forecast(plan: Plan) -> Forecast:
    """What `job.run(plan)` would take from here on. Raises what it would raise before its first answer."""
    data = plan.source.open(plan.task)
    items = limited(plan.task.read(data), plan.config.limit)
    run = RunFolder(Path(plan.config.results), plan.task.name, plan.model_id, plan.identity()).look()
    pending = run.pending(items)
    videos = [item.video for item in pending]
    lengths = Lengths(videos)
    estimator = plan.model.estimator()
    found = [forecast_video(plan, estimator, lengths, item) for item in pending]
    out = _totals(plan, run, found)
    out.judge = _judged(plan.task, pending)
    out.answered = sum(len(item.questions) for item in items) - out.questions
    out.missing = lengths.missing(videos)
    out.remarks += (
        estimator.remarks if estimator else ["this model does not say what it costs: only frames are counted"]
    )
    return out


def _judged(task: Task, items: Sequence[VideoQuestions]) -> dict[str, Any] | None:
    """What a judge will be asked about the answers; equal ones are judged once."""
    grader = task.rules.grader
    if not isinstance(grader, JudgedGrader):
        return None
    requests = sum(len(grader.chats(question, "")) for item in items for question in item.questions)
    judge = grader.judge.settings if grader.judge else None
    return {"requests": requests, "model": judge.model if judge else "", "max_calls": judge.max_calls if judge else 0}


def forecast_video(plan: Plan, estimator: Estimator | None, lengths: Lengths, item: VideoQuestions) -> VideoForecast:
    """As the loop would go through the video."""
    try:
        length = lengths.of(item.video)
        frames = frames_read(item.video, plan.model.frames_wanted(), length.info)
        video_s = decoded_s(item.video, length.info)
        if estimator is None:
            return VideoForecast(item, len(frames), video_s, length.exact)
        context = plan.task.context(item, Planned(frames))
        prompts = [plan.task.prompt(item, question, frames) for question in item.questions]
        estimate = estimator.estimate(context, prompts, plan.decoding)
        return VideoForecast(item, len(frames), video_s, length.exact, length.exact and estimator.exact, estimate)
    except SampleError as error:
        return VideoForecast(item, failure=error)


def frames_read(video: Video, request: FrameRequest, info: VideoInfo) -> FramePlan:
    """Raises VideoError."""
    if video.composite is not None:
        return composite_plan(video.path, info, video.composite, request)[0]
    return sample(request, info.frame_count, info.native_fps, video.start_s, video.end_s)


def decoded_s(video: Video, info: VideoInfo) -> float:
    """Seconds of the file that are decoded."""
    return min(video.end_s or info.duration_s, info.duration_s) - min(video.start_s or 0.0, info.duration_s)


def _totals(plan: Plan, run: RunFolder, found: Sequence[VideoForecast]) -> Forecast:
    task = plan.task
    estimates = [f.estimate for f in found if f.estimate is not None]
    questions = [q for f in found for q in f.questions()]
    failures = [failure for f in found for failure in f.failures()]
    out = Forecast(
        title=f"{task.benchmark} ({task.split}, protocol {task.protocol_label}) with {plan.model_id}",
        run=str(run.path),
        answered=0,
        videos=len(found),
        questions=sum(len(f.item.questions) for f in found),
        video_hours=sum(f.video_s for f in found) / 3600,
        frames=sum(f.frames for f in found),
        known=sum(f.known for f in found),
        exact=sum(f.exact for f in found),
        missing=0,
        failing=len(failures),
        failure=str(failures[0]) if failures else None,
        new_tokens=plan.decoding.max_new_tokens,
        visual_tokens=_mean([e.visual_tokens for e in estimates]),
        context_tokens=_mean([e.context_tokens for e in estimates]),
        prompt_tokens=_mean([q.prompt_tokens for q in questions]),
        attention_density=_mean([e.attention_density for e in estimates]),
        kv_bytes=_mean([e.kv_bytes for e in estimates]),
        kv_bytes_largest=max((e.kv_bytes for e in estimates), default=None),
        kv_bytes_used=_mean([q.kv_bytes_used for q in questions]),
        kv_used_share=_mean([share for f in found for share in f.used_shares()]),
        peak_device_bytes=max((e.peak_memory_bytes for e in estimates if e.peak_memory_bytes), default=None),
        throughput=asdict(plan.config.throughput),
        remarks=list(plan.model.remarks()),
    )
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
