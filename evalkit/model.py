"""The model extension point: answer the questions of a video.

A model is two classes. The *settings* are a light dataclass named by a config's `_target_`: they import no torch,
check their values, and say which frames they want. `build()` makes the *model*, which may import and allocate whatever
it needs. A model with a prefill derives from `PrefillModel`; any other from `VideoModel`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from evalkit.errors import SampleError
from evalkit.types import Context, Decoding, FramePlan, FrameRequest, PrefillCost, Prompt, Reply

NEUTRAL = {"neutral": True}
"""Metadata of a settings field that cannot change an answer (a device, a batch size): it stays out of the run's key."""


@dataclass(frozen=True)
class Axis:
    """A setting that sweeps vary and figures plot. `key`: its dotted key below `model`, such as `frames.max`. `unit`:
    count, ratio, bytes or seconds. `section`: the mechanism it belongs to (`bilevel_decode`), whose other settings have
    no effect while it is off; the axis then has the value `off`."""

    key: str
    label: str
    unit: str = "count"
    section: str = ""
    off: float | None = None


@dataclass(frozen=True)
class FrameSpan:
    """The frames `first` to `last` of a frame plan (positions, both included) and what happened to them: `kind` is
    dense, pooled or skipped; `label` names them ("chunk 3")."""

    first: int
    last: int
    kind: str
    label: str


@dataclass(frozen=True)
class Description:
    """`Reply.details` for a reader: sentences, and spans of the video to draw on its timeline."""

    lines: tuple[str, ...] = ()
    spans: tuple[FrameSpan, ...] = ()


@dataclass
class ModelSettings(ABC):
    """Base of a model's settings; each field is a key of its YAML in configs/model/.

    `name`: the model's name in every output; empty: the last part of its checkpoint, else the class's name.
    """

    name: str = ""

    axes: ClassVar[tuple[Axis, ...]] = ()
    """The settings that sweeps vary; the tables and figures of a run have a column for each."""

    @abstractmethod
    def frames_wanted(self) -> FrameRequest:
        """Which frames of a video, and at which size."""

    @abstractmethod
    def build(self) -> VideoModel:
        """Load the model. Raises CheckpointError or ConfigError with what to do."""

    def model_id(self) -> str:
        """Names the result folder, the CSV rows and the pages: two checkpoints of one adapter are two models."""
        checkpoint = str(getattr(self, "checkpoint", "") or "")
        return self.name or checkpoint.rstrip("/").rpartition("/")[2] or type(self).__name__

    def generation_defaults(self, fetch: bool) -> dict[str, Any]:
        """Values of `Decoding` that the checkpoint itself sets where protocol and user leave them open (None). They are
        part of the run's key. `fetch`: a file that says so may be downloaded, but not the weights."""
        return {}

    def prepare(self) -> None:  # noqa: B027 - a model without weights has nothing to fetch
        """Called before a run begins or goes on: fetch the weights, so that `provenance` is the same on every start.
        Raises CheckpointError."""

    def provenance(self) -> dict[str, Any]:
        """What identifies the weights: hub id and revision, or folder and hash. Goes into the manifest."""
        return {}

    def parts(self) -> tuple[object, ...]:
        """The objects whose classes make the answers: their source is part of the run's provenance. Default: this one;
        settings that wrap other settings name both."""
        return (self,)

    def remarks(self) -> list[str]:
        """Sentences the user must see with every score, such as 'weights are random'."""
        return []

    def estimator(self) -> Estimator | None:
        """Estimates the cost of a video for the dry run, without building the model. Default: there is no estimator."""
        return None

    @classmethod
    def describe(cls, details: Mapping[str, Any], plan: FramePlan) -> Description:
        """`Reply.details` for the page of a question. Default: one line for each key."""
        return Description(tuple(f"{key}: {value}" for key, value in details.items()))


@dataclass(frozen=True)
class QuestionEstimate:
    """What one question would take. `flops` and `dollars` with all `max_new_tokens` generated: answers that end sooner
    take less."""

    prompt_tokens: int
    kv_bytes_used: int | None = None
    flops: float | None = None
    dollars: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What the prefill of a video would take, and each of its questions; a question that will fail is its error.
    Fields are those of `PrefillCost` and `Reply`, whose numbers they forecast. None: not known."""

    visual_tokens: int | None = None
    context_tokens: int | None = None
    kv_bytes: int | None = None
    questions: tuple[QuestionEstimate | SampleError, ...] = ()
    attention_density: float | None = None
    vision_flops: float | None = None
    prefill_flops: float | None = None
    peak_memory_bytes: int | None = None


class Estimator(ABC):
    """Forecasts costs. Imports nothing heavy and reads no weights. `exact`: tokens and bytes are those of a run, given
    the right frames; `remarks` are sentences that say what the numbers are based on."""

    exact: bool = True
    remarks: tuple[str, ...] = ()

    @abstractmethod
    def estimate(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Estimate:
        """Estimate one video. `context.frames` has a plan and no frames. Raises the SampleError that the model would
        raise."""


def _nothing() -> None:
    """`Answers.close` of a model that holds nothing."""


@dataclass
class Answers:
    """A model's answers to the questions of one video.

    `replies`: one for each prompt, in order; a question that fails is its error, and the others go on. `prefill`: what
    was computed once for all of them; None where nothing is. `context`: what the model reads before the questions, as
    text. `close`: frees the device's memory; called once, also when the replies were not read to their end.
    """

    replies: Iterator[Reply | SampleError]
    prefill: PrefillCost | None = None
    context: str = ""
    close: Callable[[], None] = _nothing


class VideoModel(ABC):
    """A loaded model.

    `videos_in_flight`: how many videos `answer` may be working on at the same time, each in a thread of its own. 1: one
    after another, in the calling thread.
    """

    videos_in_flight: int = 1

    @abstractmethod
    def answer(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Answers:
        """Answer all questions of one video. Reads `context.frames`, of which `context.frames.plan` is known before.

        Raises SampleError (ModelError, VideoError) where the whole video cannot be done: its questions are marked, and
        the run goes on. Raises ModelUnavailable where the model itself is the cause (a bad key, a dead server): the run
        stops after a few in a row.
        """

    def close(self) -> None:  # noqa: B027 - most models have nothing to do here
        """Free all memory."""


@dataclass
class VideoCache:
    """What `prefill` keeps for the questions of one video: in subclasses the KV store, or only the frames."""

    cost: PrefillCost = field(default_factory=PrefillCost)

    def close(self) -> None:
        """Free device memory now; called once all questions are answered."""


Cache = TypeVar("Cache", bound=VideoCache)


class PrefillModel(VideoModel, Generic[Cache]):
    """A model that prefills each video once and answers all its questions from the result."""

    @abstractmethod
    def prefill(self, context: Context) -> Cache:
        """Decode, encode, prefill: once for each video. Reads `context.frames` to their end."""

    @abstractmethod
    def generate(self, cache: Cache, prompt: Prompt, decoding: Decoding) -> Reply:
        """Answer one question. Leaves `cache` as it was, so that the order of questions never matters."""

    def generate_all(
        self, cache: Cache, prompts: Sequence[Prompt], decoding: Decoding
    ) -> Iterator[Reply | SampleError]:
        """All questions of a video in order. Default: one after another; override to answer several at once."""
        for prompt in prompts:
            try:
                yield self.generate(cache, prompt, decoding)
            except SampleError as error:
                yield error

    def context_text(self, context: Context) -> str:
        """What is read before the questions, as text, for the record. Default: the system text."""
        return context.system or ""

    def answer(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Answers:
        """See `VideoModel`."""
        cache = self.prefill(context)
        replies = self.generate_all(cache, prompts, decoding)
        return Answers(replies, cache.cost, self.context_text(context), cache.close)
