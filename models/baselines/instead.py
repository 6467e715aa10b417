"""The choices of the group `baseline`: what is evaluated in place of a model."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from evalkit.baseline import Baseline
from evalkit.errors import ConfigError
from evalkit.model import ModelSettings

from .blind import Blind
from .unseeing import Constant, Random


@dataclass
class ConstantInstead(Baseline):
    """`model=constant`; fields as there."""

    choice: str = "A"
    text: str = "I cannot tell."

    def settings(self, model: ModelSettings) -> ModelSettings:
        return Constant(choice=self.choice, text=self.text)


@dataclass
class RandomInstead(Baseline):
    """`model=random`; fields as there."""

    seed: int = 0

    def settings(self, model: ModelSettings) -> ModelSettings:
        return Random(seed=self.seed)


@dataclass
class BlindInstead(Baseline):
    """The model without its video."""

    def settings(self, model: ModelSettings) -> ModelSettings:
        return Blind(inner=model)


@dataclass
class OneFrameInstead(Baseline):
    """The model with `frames.max=1`: the same run as with that setting."""

    def settings(self, model: ModelSettings) -> ModelSettings:
        frames: Any = getattr(model, "frames", None)
        if not (is_dataclass(frames) and any(f.name == "max" for f in fields(frames))):
            raise ConfigError(f"baseline=one_frame: {model.model_id()} has no setting model.frames.max.")
        one: Any = copy(model)
        one.frames = replace(one.frames, max=1)
        checked: ModelSettings = one
        return checked
