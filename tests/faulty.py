"""A model with the faults of real models, for tests."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from evalkit.model import NEUTRAL, VideoCache, VideoModel
from evalkit.testing import Constant, _ConstantModel
from evalkit.types import Decoding, Prompt, Reply


@dataclass
class Faulty(Constant):
    """A model that fails as its settings say.

    `build_s`: seconds that building takes. `mark`: a file that is created when building starts.
    `die_in_build`: the process is killed while it builds the model.
    `die_on`: it is killed by a question whose id contains this. `bug_on`: such a question raises a programming error.
    """

    build_s: float = field(default=0.0, metadata=NEUTRAL)
    mark: str = field(default="", metadata=NEUTRAL)
    die_in_build: bool = field(default=False, metadata=NEUTRAL)
    die_on: str = field(default="", metadata=NEUTRAL)
    bug_on: str = field(default="", metadata=NEUTRAL)

    def build(self) -> VideoModel:
        if self.mark:
            Path(self.mark).touch()
        if self.die_in_build:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.build_s)
        return _FaultyModel(self)


class _FaultyModel(_ConstantModel):
    def generate(self, cache: VideoCache, prompt: Prompt, decoding: Decoding) -> Reply:
        settings = self.settings
        assert isinstance(settings, Faulty)
        if settings.die_on and settings.die_on in prompt.question_id:
            os.kill(os.getpid(), signal.SIGKILL)
        if settings.bug_on and settings.bug_on in prompt.question_id:
            raise ZeroDivisionError("a bug of the model's")
        return super().generate(cache, prompt, decoding)
