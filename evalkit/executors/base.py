"""Where questions are answered: in this process, or by workers elsewhere. Records do not depend on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from evalkit.evaluate import Labels, evaluate
from evalkit.model import ModelSettings, VideoModel
from evalkit.task import Task
from evalkit.types import Decoding, Record, VideoQuestions
from evalkit.video.reader import FrameReader
from evalkit.video.settings import VideoSettings


@dataclass
class Job:
    """All that a worker needs, small enough to be sent to one: settings, not weights."""

    task: Task
    model: ModelSettings
    video: VideoSettings
    decoding: Decoding
    labels: Labels


class Worker:
    """Holds a loaded model and a frame reader, and answers videos with them."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model: VideoModel = job.model.build()
        self.reader = FrameReader(job.video)

    def answer(self, items: Iterable[VideoQuestions]) -> Iterator[Record]:
        job = self.job
        yield from evaluate(
            job.task, self.model, items, self.reader, job.model.frames_wanted(), job.decoding, job.labels
        )

    def close(self) -> None:
        self.reader.close()
        self.model.close()


@dataclass
class Executor(ABC):
    """`machines`: the hardware of each worker that has begun, by its name."""

    machines: dict[str, Any] = field(init=False, repr=False, default_factory=dict)

    @abstractmethod
    def run(self, job: Job, items: Sequence[VideoQuestions]) -> Iterator[Record]:
        """Records as they come, in any order, each question once. Closing the iterator stops the workers."""
