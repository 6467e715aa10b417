"""In this process: `executor=local`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalkit.executors.base import Executor, Job, Worker
from evalkit.provenance import hardware
from evalkit.types import Record, VideoQuestions


@dataclass
class Local(Executor):
    """One worker, in the task's order."""

    def run(self, job: Job, items: Sequence[VideoQuestions]) -> Iterator[Record]:
        worker = Worker(job)
        self.machines[job.labels.worker] = hardware()
        try:
            yield from worker.answer(items)
        finally:
            worker.close()
