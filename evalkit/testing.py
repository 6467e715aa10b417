"""A model without weights, for tests of tasks, trackers and runs. It reads frames as every model does."""

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
    """Gives every question the same reply.

    `reply`: the text; `brightness` gives the mean brightness of the frames, so that a test notices wrong frames.
    `fail_on`: questions whose id contains this text fail.
    `seconds`: time that each question takes.
    `question_log`: a file to which the id of each question is appended when it is asked.
    """

    name: str = "constant"
    reply: str = "A"
    frames: int = 4
    rule: str = "uniform"
    size: int = 32
    fail_on: str = ""
    seconds: float = field(default=0.0, metadata=NEUTRAL)
    question_log: str = field(default="", metadata=NEUTRAL)

    def frames_wanted(self) -> FrameRequest:
        return FrameRequest(self.rule, self.frames, resize=FixedSize(self.size, self.size))

    def build(self) -> VideoModel:
        return _ConstantModel(self)


@dataclass
class _Brightness(VideoCache):
    brightness: float = 0.0


class _ConstantModel(PrefillModel[_Brightness]):
    def __init__(self, settings: Constant) -> None:
        self.settings = settings

    def prefill(self, context: Context) -> _Brightness:
        started = time.perf_counter()
        means = [float(frame.mean()) for batch in context.frames.batches(8) for frame in batch]
        spent = time.perf_counter() - started
        cost = PrefillCost(frames=len(means), video_decode_s=context.frames.decode_seconds, prefill_s=spent)
        return _Brightness(cost, float(np.mean(means)))

    def generate(self, cache: _Brightness, prompt: Prompt, decoding: Decoding) -> Reply:
        settings = self.settings
        if settings.question_log:
            with Path(settings.question_log).open("a", encoding="utf-8") as file:
                file.write(f"{prompt.question_id}\n")
        time.sleep(settings.seconds)
        if settings.fail_on and settings.fail_on in prompt.question_id:
            raise ModelError(f"model.fail_on={settings.fail_on} makes this question fail", kind="failed")
        text = f"{cache.brightness:.3f}" if settings.reply == "brightness" else settings.reply
        return Reply(text, prompt_tokens=len(prompt.text.split()), new_tokens=1, first_token_s=settings.seconds)
