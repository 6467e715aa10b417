"""The types that the other modules share: videos with questions, frames, prompts, replies, grades, records.

They are dataclasses; their methods only check or complete their fields. Times are in seconds (`_s`), sizes in bytes
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

    from evalkit.video.resize import Resize

Gold = str | tuple[float, float] | None
"""An option letter or a reference text; a time span in seconds; None where the answer is hidden."""


@dataclass(frozen=True, slots=True)
class Composite:
    """A video assembled for one question: `frames` frames of a longer video, chosen by the sampling rule `rule`, with
    `image` inserted as one more frame after the share `depth` of them. All its frames are read, at one a second."""

    rule: str
    frames: int
    image: Path | None = None
    depth: float = 0.0


@dataclass(frozen=True, slots=True)
class Video:
    """A file, or the part of it from `start_s` to `end_s`; or a folder of numbered pictures, `fps` of them a second.
    `duration_s`: the annotated length. The ETA, the dry run and the doctor use it; the choice of frames does not."""

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
    """One question.

    text, options: verbatim from the data.
    gold: the right answer.
    unit: questions with the same unit are scored together (VNBench's four tries). Default: the question's id.
    groups: slice name -> labels; several labels where the benchmark is multi-label.
    meta: further data of the benchmark, for its prompts.
    """

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
        """A hash of text, options and gold. A stored answer belongs to this question only if its digest is the same."""
        return sha256(repr((self.text, self.options, self.gold)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class VideoQuestions:
    """A video with all its questions, which share one prefill. `cluster`: intervals and tests are clustered by it;
    default: the video's id. `meta`: further data of the benchmark."""

    video: Video
    questions: tuple[Question, ...]
    cluster: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.cluster:
            object.__setattr__(self, "cluster", self.video.id)


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """Which frames a model reads, and at which size.

    rule: a name in `evalkit.video.sampling.RULES`, or the import path of a function with the same signature.
    max_frames, fps, max_fps: parameters of the rule.
    multiple_of: frames that do not fill a last group of this many are dropped.
    resize: the size of each frame (`evalkit.video.resize`); None: as in the file.
    resample: the Pillow filter that frames are resized with.
    """

    rule: str
    max_frames: int
    fps: float = 1.0
    max_fps: float = 4.0
    multiple_of: int = 1
    resize: Resize | None = None
    resample: str = "bicubic"


@dataclass(frozen=True, slots=True)
class FramePlan:
    """The frames that are read: their indices in the video, and the time of each (seconds) as the rule states it.
    `native_fps` and `frame_count` are those of the whole video."""

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
        """Seconds spent decoding and resizing so far, in whichever process; time spent waiting is not counted."""
        ...

    @property
    def decoder(self) -> str:
        """Backend and version that produced the frames, with what failed before: 'decord 0.6.0 (pyav failed: ...)'."""
        ...

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is doubtful about the frames, one sentence each; complete once all frames were read."""
        ...

    def close(self) -> None:
        """Stop decoding and free the queued frames. Has no effect when everything was read."""
        ...


@dataclass(frozen=True, slots=True)
class Cue:
    """A subtitle between two frames: before frame number `at` of the plan (`len(plan)`: after the last frame)."""

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
    """What differs between the questions of a video.

    text: the user text that follows the video.
    answer_prefix: the start of the reply, which the model continues (`Best Option: (`).
    question_id, question: for relevance methods: the question's id, and its text without options.
    options: the texts of the options, in the order of their letters; `text` names them already.
    answer: what the grader reads: choice (an option letter), span (two times in seconds) or text.
    """

    text: str
    answer_prefix: str = ""
    question_id: str = ""
    question: str = ""
    options: tuple[str, ...] = ()
    answer: str = "text"


@dataclass(frozen=True, slots=True)
class Decoding:
    """How tokens are generated. Temperature 0 is greedy. `repetition_penalty`: see `GenerationConfig` of transformers;
    None: the checkpoint's own (its generation_config.json); 1: off."""

    max_new_tokens: int = 16
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    repetition_penalty: float | None = None


@dataclass(slots=True)
class PrefillCost:
    """The cost of one prefill, which all questions of the video share. None: not measured."""

    frames: int | None = None
    visual_tokens: int | None = None
    context_tokens: int | None = None  # all tokens before the question, visual ones included
    video_decode_s: float | None = None
    vision_s: float | None = None
    prefill_s: float | None = None
    kv_bytes: int | None = None
    attention_density: float | None = None  # computed query-key pairs as a share of causal attention's
    flops: float | None = None
    peak_memory_bytes: int | None = None  # of the device


@dataclass(slots=True)
class Reply:
    """The raw text that a model generated, and its cost. None: not measured.

    `prompt`: the question as the model reads it (chat template applied), without what `Answers.context` holds; None:
    the prompt's own text. `details`: data of this kind of model, as JSON values; `ModelSettings.describe` shows them.
    `remarks`: sentences that a reader of the answer should see.
    """

    text: str
    prompt: str | None = None
    prompt_tokens: int | None = None
    new_tokens: int | None = None
    question_s: float | None = None
    generate_s: float | None = None
    first_token_s: float | None = None  # from the question's arrival, prefill of the video not included
    kv_bytes_used: int | None = None
    flops: float | None = None
    finish: str = "stop"  # stop | length
    details: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of one reply.

    score: from 0 to 1 (judged tasks: their own scale); None if the protocol excludes the question or no answer is
        known.
    extracted: the answer that was read in the reply.
    rule: how `extracted` was read.
    valid: an answer could be read.
    values: further scores of the same reply by name (R@0.5, IoU).
    graded: False if the judge has not graded it yet.
    note: a remark of the grader; if `graded` is False, why.
    """

    score: float | None
    extracted: str | tuple[float, float] | None = None
    rule: str = ""
    valid: bool = True
    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    graded: bool = True


@dataclass(slots=True)
class Prefill:
    """One pass of a model over a video; one line of prefills.jsonl. For a model without a prefill it holds the frames
    and no cost. None, or a missing key: not measured.

    `id` is a hash of the input (video, file, frames, context), so that an interrupted run has the same records as one
    that was not. A video that was prefilled twice has two lines with the same id.
    """

    id: str
    video: str
    plan: dict[str, Any]  # fields of FramePlan: {indices, times_s, native_fps, frame_count, rule}
    decoder: str = ""
    file: dict[str, Any] | None = None  # {bytes, ends_sha256} of the video file
    context: str = ""  # what the model reads before the question, as text
    frames: int | None = None
    tokens: dict[str, int] = field(default_factory=dict)  # {visual, context}
    seconds: dict[str, float] = field(default_factory=dict)  # {video_decode, vision, prefill}
    kv_bytes: int | None = None
    attention_density: float | None = None
    flops: float | None = None
    peak_memory_bytes: int | None = None  # of the device
    worker: str = ""
    started: str = ""


@dataclass(slots=True)
class Record:
    """One reply with its grade; one line of records.jsonl. Scores, tables and pages are computed from records and
    prefills. None, or a missing key: not measured, or without a value."""

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
    status: str  # ok | failed (no reply) | ungraded (a reply without a grade yet)
    reply: str | None = None
    extracted: Any = None
    score: float | None = None
    values: dict[str, float] = field(default_factory=dict)
    rule: str = ""
    valid: bool = True
    note: str = ""  # of the grader
    remarks: list[str] = field(default_factory=list)  # of the model and of the decoder
    error: dict[str, str] | None = None  # {kind, message}
    question_sha256: str = ""  # see `Question.digest`
    prefill: str | None = None  # id of a line of prefills.jsonl
    prompt: str | None = None  # what the model reads behind the prefill's context
    prompt_sha256: str | None = None  # of the prefill's context and the prompt
    tokens: dict[str, int] = field(default_factory=dict)  # {prompt, new}
    seconds: dict[str, float] = field(default_factory=dict)  # {question, generate}
    ttft: float | None = None  # seconds from the question's arrival to its first token, without the prefill
    kv_bytes_used: int | None = None
    flops: float | None = None
    finish: str | None = None
    details: dict[str, Any] = field(default_factory=dict)  # see `Reply.details`
    host_memory_bytes: int | None = None  # peak of the process while it worked on this video
    worker: str = ""
    started: str = ""
