"""Executors decide where a model runs: in this process or in workers. The records are the same."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from evalkit import evaluate
from evalkit.evaluate import Labels, Loop
from evalkit.model import ModelSettings, VideoModel
from evalkit.task import Task
from evalkit.types import Decoding, VideoQuestions
from evalkit.video.reader import FrameReader
from evalkit.video.settings import VideoSettings


@dataclass(frozen=True)
class WorkerStarted:
    """A worker has started. `hardware`: see `provenance.hardware`."""

    name: str
    hardware: dict[str, Any]


Event = evaluate.Event | WorkerStarted


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs in order to start. It holds settings, not weights, so that it can be sent to other
    machines."""

    task: Task
    model: ModelSettings
    video: VideoSettings
    decoding: Decoding
    labels: Labels
    plugins: tuple[str, ...] = ()  # packages beside evalkit that a sampling rule may come from


class ModelWorker:
    """A loaded model and a frame reader, which answer the questions of videos."""

    def __init__(self, setup: WorkerSetup) -> None:
        self.model: VideoModel = setup.model.build()
        self.reader = FrameReader(setup.video, in_flight=self.model.videos_in_flight, plugins=setup.plugins)
        request = setup.model.frames_wanted()
        self.loop = Loop(setup.task, self.model, self.reader, request, setup.decoding, setup.labels)

    def answer(self, items: Iterable[VideoQuestions]) -> Iterator[evaluate.Event]:
        yield from self.loop.run(items)

    def close(self) -> None:
        self.reader.close()
        self.model.close()


@dataclass
class Executor(ABC):
    @abstractmethod
    def run(self, setup: WorkerSetup, items: Sequence[VideoQuestions]) -> Iterator[Event]:
        """Yield each worker when it starts, and prefills and records as they are made: one record for each question, in
        any order, and a prefill before its records. Closing the iterator stops the workers."""
