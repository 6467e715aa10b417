"""`executor=local`: the model runs in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalkit.executors.base import Event, Executor, ModelWorker, WorkerSetup, WorkerStarted
from evalkit.provenance import hardware
from evalkit.types import VideoQuestions


@dataclass
class Local(Executor):
    """One worker, which takes the videos in the task's order."""

    def run(self, setup: WorkerSetup, items: Sequence[VideoQuestions]) -> Iterator[Event]:
        worker = ModelWorker(setup)
        try:
            yield WorkerStarted(setup.labels.worker, hardware())
            yield from worker.answer(items)
        finally:
            worker.close()
