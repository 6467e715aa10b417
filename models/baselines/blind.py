"""A model without its video. It gets as many frames as before, at the same times and of the same size, all of them
black: models need frames, and prompt, cost and time stamps stay those of the model. Subtitles that a protocol shows
stay too, because they are text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evalkit.model import Answers, Estimator, ModelSettings, VideoModel
from evalkit.types import Context, Decoding, FramePlan, FrameRequest, FrameStream, Prompt


@dataclass
class Blind(ModelSettings):
    """The model of other settings (`inner`), without its video."""

    inner: ModelSettings = field(kw_only=True)

    def frames_wanted(self) -> FrameRequest:
        return self.inner.frames_wanted()

    def build(self) -> VideoModel:
        return BlindModel(self.inner.build())

    def model_id(self) -> str:
        return self.name or f"{self.inner.model_id()}-blind"

    def provenance(self) -> dict[str, Any]:
        return self.inner.provenance()

    def parts(self) -> tuple[object, ...]:
        return (self, *self.inner.parts())

    def remarks(self) -> list[str]:
        return [*self.inner.remarks(), "A baseline that does not look: all frames are black."]

    def estimator(self) -> Estimator | None:
        return self.inner.estimator()


class BlindModel(VideoModel):
    """Passes everything on to another model, except for the content of the frames."""

    def __init__(self, inner: VideoModel) -> None:
        self.inner = inner
        self.videos_in_flight = inner.videos_in_flight

    def answer(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Answers:
        """See `VideoModel`."""
        return self.inner.answer(replace(context, frames=BlackFrames(context.frames)), prompts, decoding)

    def close(self) -> None:
        self.inner.close()


class BlackFrames:
    """A frame stream with the plan and the frame size of another, and black frames."""

    def __init__(self, frames: FrameStream) -> None:
        self.frames = frames

    @property
    def plan(self) -> FramePlan:
        return self.frames.plan

    @property
    def decode_seconds(self) -> float:
        return self.frames.decode_seconds

    @property
    def decoder(self) -> str:
        return self.frames.decoder

    @property
    def remarks(self) -> tuple[str, ...]:
        return self.frames.remarks

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """As `FrameStream` says. One frame is decoded, for its size."""
        shape = next(self.frames.batches(1)).shape[1:]
        self.frames.close()
        for first in range(0, len(self.plan), size):
            yield np.zeros((min(size, len(self.plan) - first), *shape), np.uint8)

    def close(self) -> None:
        self.frames.close()
