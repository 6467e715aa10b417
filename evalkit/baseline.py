"""What is evaluated in place of a model, to see what a benchmark gives to those who do not look: `baseline=<name>`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from evalkit.model import ModelSettings


class Baseline(ABC):
    """A choice of the group `baseline`. Subclasses are dataclasses whose fields are the keys of their YAML."""

    @abstractmethod
    def settings(self, model: ModelSettings) -> ModelSettings:
        """What is evaluated in place of `model`. Raises ConfigError where there is no such baseline for it."""


@dataclass
class NoBaseline(Baseline):
    """The model itself."""

    def settings(self, model: ModelSettings) -> ModelSettings:
        return model
