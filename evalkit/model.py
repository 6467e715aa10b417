"""The model extension point: prefill a video once, answer its questions from that cache.

A model is two classes. The *settings* are a light dataclass named by a config's `_target_`: they import no torch,
check their values, and say which frames they want. `build()` makes the *model*, which may be as heavy as it likes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.errors import SampleError
from evalkit.types import Context, Decoding, FrameRequest, PrefillCost, Prompt, Reply

NEUTRAL = {"neutral": True}
"""Metadata of a settings field that cannot change an answer (a device, a batch size): it stays out of the run's key."""


@dataclass
class ModelSettings(ABC):
    """Base of a model's settings; each field is a key of its YAML in configs/model/."""

    name: str = ""

    @abstractmethod
    def frames_wanted(self) -> FrameRequest:
        """Which frames of a video, and at which size."""

    @abstractmethod
    def build(self) -> VideoModel:
        """Load the model. Raises CheckpointError or ConfigError with what to do."""

    def provenance(self) -> dict[str, Any]:
        """What identifies the weights: hub id and revision, or folder and hash. Goes into the manifest."""
        return {}

    def remarks(self) -> list[str]:
        """Sentences the user must see with every score, such as 'weights are random'."""
        return []

    def estimator(self) -> Estimator | None:
        """What tells the dry run the cost of a video without building the model. Default: nothing does."""
        return None


@dataclass(frozen=True)
class QuestionEstimate:
    """What one question would take. `flops` with all `max_new_tokens` generated: answers that end sooner take less."""

    prompt_tokens: int
    kv_bytes_used: int | None = None
    flops: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What the prefill of a video would take, and each of its questions; a question that is bound to fail is its error.
    Fields are those of `PrefillCost` and `Reply`, whose numbers they foretell."""

    visual_tokens: int
    context_tokens: int
    kv_bytes: int
    questions: tuple[QuestionEstimate | SampleError, ...] = ()
    attention_density: float | None = None
    vision_flops: float | None = None
    prefill_flops: float | None = None
    peak_memory_bytes: int | None = None


class Estimator(ABC):
    """Foretells costs. Imports nothing heavy and reads no weights. `exact`: tokens and bytes are those of a run, given
    the right frames; `remarks` are sentences that say what the numbers rest on."""

    exact: bool = True
    remarks: tuple[str, ...] = ()

    @abstractmethod
    def estimate(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Estimate:
        """Of one video. `context.frames` has a plan and no frames. Raises SampleError where the prefill would."""


@dataclass
class VideoCache:
    """What `prefill` leaves for the questions of one video. Subclasses hold the KV store, or merely the frames."""

    cost: PrefillCost = field(default_factory=PrefillCost)

    def close(self) -> None:
        """Free device memory now; called once all questions are answered."""


class VideoModel(ABC):
    """Raises `ModelError` for a video or question it cannot do; that question is marked and the run goes on."""

    @abstractmethod
    def prefill(self, context: Context) -> VideoCache:
        """Decode, encode, prefill: once a video. Consumes `context.frames`."""

    @abstractmethod
    def generate(self, cache: VideoCache, prompt: Prompt, decoding: Decoding) -> Reply:
        """Answer one question. Leaves `cache` as it was, so that order never matters."""

    def answers(
        self, cache: VideoCache, prompts: Sequence[Prompt], decoding: Decoding
    ) -> Iterator[Reply | SampleError]:
        """All questions of a video in order, each as its reply or as the error that costs it. One by one, unless a
        model has a better way to take several at once."""
        for prompt in prompts:
            try:
                yield self.generate(cache, prompt, decoding)
            except SampleError as error:
                yield error

    def rendered(self, context: Context, prompt: Prompt) -> str:
        """The question as the model reads it (chat template, rewritten times), for the record. Default: the prompt."""
        return prompt.text + prompt.answer_prefix

    def close(self) -> None:  # noqa: B027 - most models have nothing to do here
        """Free everything."""
