"""The nouns. A task gives videos (a video and its questions); frames are read; a model replies; replies are graded;
each becomes one record.

Plain frozen dataclasses, no behaviour beyond what keeps them well-formed. Times are seconds (`_s`), sizes bytes
(`_bytes`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from evalkit.errors import DataError

if TYPE_CHECKING:
    import numpy as np

Gold = str | tuple[float, float] | None
"""An option letter or a reference text; a time span in seconds; None where the answer is hidden."""


@dataclass(frozen=True, slots=True)
class Composite:
    """A video put together for one question: `frames` frames of a longer one, as the sampling rule `rule` picks them,
    and `image` as one more frame behind the share `depth` of them. It is read whole, at one frame a second."""

    rule: str
    frames: int
    image: Path | None = None
    depth: float = 0.0


@dataclass(frozen=True, slots=True)
class Video:
    """A file, or the part of it between `start_s` and `end_s`; or a folder of numbered pictures, `fps` a second.
    `duration_s` is the annotated one: it feeds the ETA, the dry run and the doctor, never the sampling."""

    id: str
    path: Path
    start_s: float | None = None
    end_s: float | None = None
    duration_s: float | None = None
    subtitles: Path | None = None
    fps: float | None = None
    composite: Composite | None = None

    def __post_init__(self) -> None:
        length = self.duration_s
        if length is not None and not (isinstance(length, int | float) and 0 <= length < float("inf")):
            raise DataError(f"video {self.id}: its duration is {length!r}, not a number of seconds.")


@dataclass(frozen=True, slots=True)
class Question:
    """`text` and `options` verbatim from the data. `unit`: questions that are scored together (VNBench's four tries);
    its own id unless set. `groups`: slice name -> labels, several where the benchmark is multi-label."""

    id: str
    text: str
    options: tuple[str, ...] = ()
    gold: Gold = None
    unit: str = ""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.unit:
            object.__setattr__(self, "unit", self.id)

    def digest(self) -> str:
        """Changes with the text, the options or the gold: an answer to another question is no answer to this one."""
        return sha256(repr((self.text, self.options, self.gold)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class VideoQuestions:
    """What shares one prefill: a video, all its questions, and the system text and subtitles they have in common.
    `cluster` is the unit that intervals resample (the video; VNBench: the haystack)."""

    video: Video
    questions: tuple[Question, ...]
    cluster: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.cluster:
            object.__setattr__(self, "cluster", self.video.id)


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """Which frames a model wants, and how large. `rule` is a name in `evalkit.video.sampling.RULES`; the other values
    are the rule's own parameters. `size` is (height, width): frames are resized with Pillow as they are decoded."""

    rule: str
    max_frames: int
    fps: float = 1.0
    max_fps: float = 4.0
    multiple_of: int = 1
    size: tuple[int, int] | None = None
    resample: str = "bicubic"


@dataclass(frozen=True, slots=True)
class FramePlan:
    """The frames that will be read: their indices in the video, and the time of each as the rule states it."""

    indices: tuple[int, ...]
    times_s: tuple[float, ...]
    native_fps: float
    frame_count: int
    rule: str

    def __len__(self) -> int:
        return len(self.indices)


class FrameStream(Protocol):
    """Frames of one video, decoded in the background while they are consumed."""

    @property
    def plan(self) -> FramePlan:
        """The frames that are read."""
        ...

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """uint8 `[n, height, width, 3]` RGB in plan order, n = size except for the last. Raises VideoError."""
        ...

    @property
    def decode_seconds(self) -> float:
        """Seconds spent decoding and resizing so far, wherever that happened (not the time waited for them)."""
        ...

    @property
    def decoder(self) -> str:
        """Backend and version that produced the frames, with any fall-over: 'decord 0.6.0 (pyav failed: ...)'."""
        ...

    def close(self) -> None:
        """Stop decoding and free what is queued; harmless when everything was read."""
        ...


@dataclass(frozen=True, slots=True)
class Cue:
    """A subtitle that stands between frames: before frame number `at` of the plan (`len(plan)`: after the last)."""

    at: int
    text: str


@dataclass(frozen=True, slots=True)
class Context:
    """What all questions of a video share, in the order the model reads it: system text, then frames with cues."""

    video: Video
    frames: FrameStream
    system: str | None = None  # None: the model's own default
    cues: tuple[Cue, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What differs between the questions of a video: the user text that follows the video, and the words already put
    into the assistant's mouth (`Best Option: (`). `question_id` and `question` let a relevance method look a question
    up or read it without its options."""

    text: str
    answer_prefix: str = ""
    question_id: str = ""
    question: str = ""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are generated. Temperature 0 is greedy."""

    max_new_tokens: int = 16
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(slots=True)
class PrefillCost:
    """What a video's prefill took. Shared by its questions."""

    frames: int = 0
    visual_tokens: int = 0
    context_tokens: int = 0
    video_decode_s: float = 0.0
    vision_s: float = 0.0
    prefill_s: float = 0.0
    kv_bytes: int = 0
    attention_density: float | None = None
    flops: float | None = None
    peak_memory_bytes: int | None = None


@dataclass(slots=True)
class Reply:
    """Raw text as generated, and what it took."""

    text: str
    prompt_tokens: int = 0
    new_tokens: int = 0
    question_s: float = 0.0
    generate_s: float = 0.0
    first_token_s: float | None = None  # from the question's arrival, prefill of the video not included
    kv_bytes_used: int | None = None
    flops: float | None = None
    dense_chunks: tuple[int, ...] | None = None  # of chunks of `chunk_frames` frames each, counted from 0
    chunk_frames: int | None = None
    finish: str = "stop"  # stop | length
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """`score` in [0, 1] (judged tasks: their own scale), None when the protocol drops the question or no answer is
    known. `values` are further named scores of the same reply (R@0.5, IoU). `rule` says how `extracted` was found.
    `graded`: False where the answer still waits for a judge; `note` then says why."""

    score: float | None
    extracted: str | tuple[float, float] | None = None
    rule: str = ""
    valid: bool = True
    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    graded: bool = True


@dataclass(slots=True)
class Record:
    """One answer; one line of records.jsonl; the only source of truth. Everything else is a view of these."""

    run: str
    task: str
    split: str
    protocol: str
    model: str
    video: str
    question: str
    unit: str
    cluster: str
    groups: dict[str, list[str]]
    gold: Any
    status: str  # ok | failed (no reply) | ungraded (a reply that waits for its judge)
    reply: str | None = None
    extracted: Any = None
    score: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    rule: str = ""
    valid: bool = True
    note: str = ""  # of the grader
    remarks: list[str] = field(default_factory=list)  # of the model
    error: dict[str, str] | None = None  # {kind, message}
    question_sha256: str = ""  # of what was asked and what is right, as the data had it: see `Question.digest`
    prompt: str | None = None
    prompt_sha256: str | None = None
    frames: int | None = None
    sampling: dict[str, Any] | None = None  # {rule, indices, times_s, native_fps, frame_count, decoder, file}
    tokens: dict[str, int] = field(default_factory=dict)  # {visual, prompt, new}
    seconds: dict[str, float] = field(default_factory=dict)  # {video_decode, vision, prefill, question, generate}
    ttft: float | None = None
    kv_bytes: dict[str, int] = field(default_factory=dict)  # {dense, used}
    attention_density: float | None = None
    flops: dict[str, float] = field(default_factory=dict)  # {prefill, question}
    dense_chunks: list[int] | None = None  # of chunks of `chunk_frames` frames each, counted from 0
    chunk_frames: int | None = None
    finish: str | None = None
    peak_memory: dict[str, int] = field(default_factory=dict)  # {device, host}
    worker: str = ""
    started: str = ""
