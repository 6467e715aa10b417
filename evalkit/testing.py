"""For tests of tasks, trackers and runs: a model that needs no weights. It reads the frames like any other."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from evalkit.errors import ModelError
from evalkit.model import NEUTRAL, ModelSettings, PrefillModel, VideoCache, VideoModel
from evalkit.types import Context, Decoding, FrameRequest, PrefillCost, Prompt, Reply
from evalkit.video.resize import FixedSize


@dataclass
class Constant(ModelSettings):
    """Answers every question with `reply`; with `reply: brightness`, by the mean brightness of the frames it saw, so
    that wrong frames show. `fail_on`: a question whose id contains this fails. `seconds`: how long a question takes.
    `diary`: a file that gets a line for each question that is asked, answered or not."""

    name: str = "constant"
    reply: str = "A"
    frames: int = 4
    rule: str = "uniform"
    size: int = 32
    fail_on: str = ""
    seconds: float = field(default=0.0, metadata=NEUTRAL)
    diary: str = field(default="", metadata=NEUTRAL)

    def frames_wanted(self) -> FrameRequest:
        return FrameRequest(self.rule, self.frames, resize=FixedSize(self.size, self.size))

    def build(self) -> VideoModel:
        return _ConstantModel(self)


@dataclass
class _Seen(VideoCache):
    brightness: float = 0.0


class _ConstantModel(PrefillModel[_Seen]):
    def __init__(self, settings: Constant) -> None:
        self.settings = settings

    def prefill(self, context: Context) -> _Seen:
        started = time.perf_counter()
        means = [float(frame.mean()) for batch in context.frames.batches(8) for frame in batch]
        spent = time.perf_counter() - started
        cost = PrefillCost(frames=len(means), video_decode_s=context.frames.decode_seconds, prefill_s=spent)
        return _Seen(cost, float(np.mean(means)))

    def generate(self, cache: _Seen, prompt: Prompt, decoding: Decoding) -> Reply:
        settings = self.settings
        if settings.diary:
            with Path(settings.diary).open("a", encoding="utf-8") as file:
                file.write(f"{prompt.question_id}\n")
        time.sleep(settings.seconds)
        if settings.fail_on and settings.fail_on in prompt.question_id:
            raise ModelError(f"told to fail on questions with {settings.fail_on}", kind="failed")
        text = f"{cache.brightness:.3f}" if settings.reply == "brightness" else settings.reply
        return Reply(text, prompt_tokens=len(prompt.text.split()), new_tokens=1, first_token_s=settings.seconds)
