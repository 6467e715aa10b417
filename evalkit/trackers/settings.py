"""`tracker=`: which views a run writes while it goes on."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from evalkit.errors import ConfigError, suggest
from evalkit.trackers.base import Tracker, Trackers
from evalkit.trackers.console import ConsoleTracker
from evalkit.trackers.csv import Csv
from evalkit.trackers.wandb import Wandb

_MODES = ("offline", "online", "disabled")


@dataclass
class TrackerSettings:
    """CSV and the console always; wandb as asked (null: the variable WANDB_MODE, else offline)."""

    wandb: str | None = None
    project: str = "evalkit"
    entity: str | None = None

    def __post_init__(self) -> None:
        self.wandb = self.wandb or os.environ.get("WANDB_MODE") or "offline"
        if self.wandb not in _MODES:
            raise ConfigError(f"tracker.wandb={self.wandb}: choose {', '.join(_MODES)}.{suggest(self.wandb, _MODES)}")

    def build(self, results: Path) -> Trackers:
        """In the order in which they finish: CSV before wandb, which uploads it; the console has the last word."""
        trackers: list[Tracker] = [Csv(results)]
        if self.wandb != "disabled":
            trackers.append(Wandb(self.wandb or "offline", self.project, self.entity))
        return Trackers([*trackers, ConsoleTracker()])
