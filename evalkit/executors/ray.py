"""Many GPUs, many machines: `executor=ray` (pip install 'evalkit[ray]').

Ray places the workers, restarts those that die and moves the data; evalkit only says what is to be done next. Workers
pull videos, longest first, so that none is left with a long one at the end. Records stream back as they are answered
and are written by the one process that started the run.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evalkit.errors import ConfigError, EvalkitError, ModelError
from evalkit.evaluate import failed
from evalkit.executors.base import Executor, Job, Worker
from evalkit.types import Clip, Record


@dataclass
class Ray(Executor):
    """`workers`: how many, each with a model of its own; those that find no place yet join when there is one.
    `address`: a running cluster (`auto`, `ray://...`); null starts Ray on this machine. `gpus_per_worker`: null is one
    where the cluster has GPUs. `tries`: how often a video may take its worker down before its questions are marked."""

    workers: int = 1
    gpus_per_worker: float | None = None
    cpus_per_worker: float = 1.0
    address: str | None = None
    tries: int = 3

    def __post_init__(self) -> None:
        if self.workers < 1 or self.tries < 1:
            raise ConfigError("executor.workers and executor.tries must be at least 1.")
        if (self.gpus_per_worker or 0) < 0 or self.cpus_per_worker < 0:
            raise ConfigError("executor.gpus_per_worker and executor.cpus_per_worker cannot be negative.")

    def run(self, job: Job, clips: Sequence[Clip]) -> Iterator[Record]:
        ray = _ray()
        own = not ray.is_initialized()
        if own:
            _start(ray, self.address)
        crew = _Crew(ray, self, job)
        try:
            yield from crew.run(clips)
        finally:
            crew.dismiss()
            if own:
                ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError("executor=ray needs the package ray: pip install 'evalkit[ray]'.") from None
    return ray


def _start(ray: Any, address: str | None) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do anyway; silences its warning
    try:
        ray.init(address=address, include_dashboard=False if address is None else None, log_to_driver=False)
    except ConnectionError as error:
        raise ConfigError(f"executor.address={address}: no Ray cluster answers there ({error}).") from None


class _Queue:
    """The videos that are still to be done, and who has which. Lives in an actor: workers pull from it."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self.waiting = sorted(clips, key=_seconds)  # the last is the longest
        self.taken: dict[int, list[Clip]] = {}

    def take(self, worker: int) -> Clip | None:
        if not self.waiting:
            return None
        clip = self.waiting.pop()
        self.taken.setdefault(worker, []).append(clip)
        return clip

    def give_back(self, worker: int, clips: Sequence[Clip]) -> None:
        """What a dead worker had not answered, in front of everything else."""
        self.taken[worker] = []
        self.waiting.extend(clips)

    def taken_by(self, worker: int) -> list[Clip]:
        return self.taken.get(worker, [])


def _seconds(clip: Clip) -> float:
    return clip.video.duration_s or 0.0


class _Member:
    """One worker. The model is built with the first clip, so that what is wrong with it is reported as such."""

    def __init__(self, job: Job, number: int) -> None:
        self.job = replace(job, labels=replace(job.labels, worker=f"ray-{number}"))
        self.number = number
        self.worker: Worker | None = None

    def work(self, queue: Any) -> Iterator[Record]:
        import ray

        self.worker = self.worker or Worker(self.job)
        yield from self.worker.answer(iter(lambda: ray.get(queue.take.remote(self.number)), None))


class _Crew:
    """The workers of one run."""

    def __init__(self, ray: Any, settings: Ray, job: Job) -> None:
        self.ray, self.settings, self.job = ray, settings, job
        self.done: set[str] = set()
        self.deaths: Counter[str] = Counter()
        self.members: list[Any] = []

    def run(self, clips: Sequence[Clip]) -> Iterator[Record]:
        ray = self.ray
        self.queue = ray.remote(num_cpus=0)(_Queue).remote(clips)
        gpus = self.settings.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        member = ray.remote(num_cpus=self.settings.cpus_per_worker, num_gpus=gpus, max_restarts=-1)(_Member)
        self.members = [member.remote(self.job, n) for n in range(min(self.settings.workers, len(clips)))]
        streams = {self._begin(n): n for n in range(len(self.members))}
        questions = sum(len(clip.questions) for clip in clips)
        while streams and len(self.done) < questions:  # some workers may never have found a place
            (ready,), _ = ray.wait(list(streams), num_returns=1, fetch_local=False)
            number = streams.pop(ready)
            try:
                record = ray.get(next(ready))
            except StopIteration:
                continue
            except ray.exceptions.RayActorError:
                yield from self._recover(number)
                streams[self._begin(number)] = number
                continue
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, EvalkitError):
                    raise error.cause from None
                raise
            streams[ready] = number
            self.done.add(record.question)
            yield record

    def dismiss(self) -> None:
        """End the workers; a cluster that is not ours gets its place back."""
        for member in self.members:
            self.ray.kill(member)

    def _begin(self, number: int) -> Any:
        return self.members[number].work.options(num_returns="streaming").remote(self.queue)

    def _recover(self, number: int) -> Iterator[Record]:
        """A worker died: Ray restarts it, its unanswered questions go to whoever pulls next. A video that keeps taking
        workers down costs its own questions."""
        again = []
        left = [self._unanswered(clip) for clip in self.ray.get(self.queue.taken_by.remote(number))]
        for first, clip in zip([True] + [False] * len(left), filter(None, left), strict=False):
            self.deaths[clip.video.id] += first  # the one it was working on; the others were only being decoded
            if self.deaths[clip.video.id] < self.settings.tries:
                again.append(clip)
                continue
            error = ModelError(f"{clip.video.path} ended its worker {self.settings.tries} times.", kind="worker_died")
            for question in clip.questions:
                self.done.add(question.id)
                yield failed(self.job.task, clip, question, error, self.job.labels)
        self.ray.get(self.queue.give_back.remote(number, again[::-1]))

    def _unanswered(self, clip: Clip) -> Clip | None:
        questions = tuple(q for q in clip.questions if q.id not in self.done)
        return replace(clip, questions=questions) if questions else None
