"""In this process: `executor=local`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evalkit.executors.base import Executor, Job, Worker
from evalkit.provenance import hardware
from evalkit.types import Clip, Record


@dataclass
class Local(Executor):
    """One worker, in the task's order."""

    def run(self, job: Job, clips: Sequence[Clip]) -> Iterator[Record]:
        worker = Worker(job)
        self.machines[job.labels.worker] = hardware()
        try:
            yield from worker.answer(clips)
        finally:
            worker.close()
