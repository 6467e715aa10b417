"""Models that read no frame: a constant reply, and a random one in the form of an answer."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from evalkit.model import Answers, ModelSettings, VideoModel
from evalkit.scoring.grade import LETTERS
from evalkit.types import Context, Decoding, FramePlan, FrameRequest, Prompt, Reply
from evalkit.video.resize import FixedSize

_USUAL_OPTIONS = 4
"""Letters of a multiple-choice question whose options stand in its text alone."""


@dataclass
class Unseeing(ModelSettings):
    """Answers from the question alone. One small frame is asked for, so that a video that cannot be opened fails its
    questions as it does for any model."""

    def frames_wanted(self) -> FrameRequest:
        return FrameRequest("uniform", 1, resize=FixedSize(16, 16))

    def build(self) -> VideoModel:
        return UnseeingModel(self)

    @abstractmethod
    def reply(self, prompt: Prompt, plan: FramePlan) -> str:
        """The reply to one question about a video of which only the length is known."""


@dataclass
class Constant(Unseeing):
    """The same reply to every question. `choice`: to questions with options; `text`: to open ones. A question for a
    time span gets the whole video."""

    name: str = "constant"
    choice: str = "A"
    text: str = "I cannot tell."

    def reply(self, prompt: Prompt, plan: FramePlan) -> str:
        if prompt.answer == "span":
            return span_text(0.0, plan.frame_count / plan.native_fps)
        return self.choice if prompt.answer == "choice" else self.text

    def remarks(self) -> list[str]:
        return ["A baseline that does not look: the same reply to every question."]


@dataclass
class Random(Unseeing):
    """A random reply, which follows from `seed` and the question's id: one of the options' letters, a time span between
    two uniform times of the video, or yes or no."""

    name: str = "random"
    seed: int = 0

    def reply(self, prompt: Prompt, plan: FramePlan) -> str:
        digest = sha256(f"{self.seed}\0{prompt.question_id}".encode(errors="replace")).digest()
        draw = random.Random(int.from_bytes(digest))
        if prompt.answer == "span":
            return span_text(*sorted(draw.uniform(0.0, plan.frame_count / plan.native_fps) for _ in range(2)))
        if prompt.answer == "choice":
            return draw.choice(LETTERS[: len(prompt.options) or _USUAL_OPTIONS])
        return draw.choice(("Yes.", "No."))

    def remarks(self) -> list[str]:
        return ["A baseline that does not look: random replies."]


def span_text(start_s: float, end_s: float) -> str:
    """A time span in both forms that the published parsers read."""
    return f"The event happens in {start_s:.1f} - {end_s:.1f} seconds, from {start_s:.1f} to {end_s:.1f}."


class UnseeingModel(VideoModel):
    """Gives the replies of its settings."""

    def __init__(self, settings: Unseeing) -> None:
        self.settings = settings

    def answer(self, context: Context, prompts: Sequence[Prompt], decoding: Decoding) -> Answers:
        """See `VideoModel`."""
        plan = context.frames.plan
        return Answers(iter([Reply(self.settings.reply(prompt, plan)) for prompt in prompts]))
