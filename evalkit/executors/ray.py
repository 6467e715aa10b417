"""Many GPUs, many machines: `executor=ray` (the extra `ray`).

Ray places the workers, restarts those that die and moves the data; evalkit only says what is to be done next. Workers
pull videos, longest first, so that none is left with a long one at the end. Records stream back as they are answered
and are written by the one process that started the run.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from evalkit.errors import ConfigError, EvalkitError, ModelError, RunError, install_hint
from evalkit.evaluate import failed
from evalkit.executors.base import Event, Executor, ModelWorker, WorkerSetup, WorkerStarted
from evalkit.provenance import hardware
from evalkit.types import Prefill, Record, VideoQuestions

_UNAVAILABLE_S = 1.0
_CONNECT_S = 10.0
_PORT = 6379  # Ray's default


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

    def run(self, setup: WorkerSetup, items: Sequence[VideoQuestions]) -> Iterator[Event]:
        ray = _ray()
        own = not ray.is_initialized()
        if own:
            _start(ray, self.address)
        crew = _Crew(ray, self, setup)
        try:
            yield from crew.run(items)
        finally:
            crew.dismiss()
            if own:
                ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError(f"executor=ray needs the package ray: {install_hint('ray')}.") from None
    return ray


def _start(ray: Any, address: str | None) -> None:
    """`local` is said aloud: without it Ray takes the cluster that RAY_ADDRESS names, or one it finds."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do anyway; silences its warning
    own = {"address": "local", "include_dashboard": False}
    if address:
        _check_reachable(address)
    with _own_signals():
        try:
            ray.init(**({"address": address} if address else own), log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"executor.address={address}: no Ray cluster answers there ({error}).") from None


def _check_reachable(address: str) -> None:
    """Raises ConfigError for an address where nothing listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").partition(":")
    if address == "auto" or not host:
        return
    try:
        socket.create_connection((host, int(port or _PORT)), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"executor.address={address}: nothing answers there ({error}). Is the head node up, and the port right?"
        ) from None


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; here it means what Ctrl-C means."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class _Queue:
    """The videos that are still to be done, and who has which. Lives in an actor: workers pull from it."""

    def __init__(self, items: Sequence[VideoQuestions]) -> None:
        self.waiting = sorted(items, key=_seconds)  # the last is the longest
        self.taken: dict[int, list[VideoQuestions]] = {}

    def take(self, worker: int) -> VideoQuestions | None:
        if not self.waiting:
            return None
        item = self.waiting.pop()
        self.taken.setdefault(worker, []).append(item)
        return item

    def give_back(self, worker: int, items: Sequence[VideoQuestions]) -> None:
        """What a dead worker had not answered, in front of everything else."""
        self.taken[worker] = []
        self.waiting.extend(items)

    def taken_by(self, worker: int) -> list[VideoQuestions]:
        return self.taken.get(worker, [])


def _seconds(item: VideoQuestions) -> float:
    return item.video.duration_s or 0.0


class _Member:
    """One worker. The model is built with the first video, so that what is wrong with it is reported as such."""

    def __init__(self, setup: WorkerSetup, number: int) -> None:
        self.setup = replace(setup, labels=replace(setup.labels, worker=_name(number)))
        self.number = number
        self.worker: ModelWorker | None = None
        self.hardware: dict[str, Any] = {}

    def work(self, queue: Any) -> Iterator[Event]:
        """The hardware it runs on, then prefills and records."""
        import ray

        self.hardware = self.hardware or hardware()
        yield WorkerStarted(_name(self.number), self.hardware)
        self.worker = self.worker or ModelWorker(self.setup)
        yield from self.worker.answer(iter(lambda: ray.get(queue.take.remote(self.number)), None))


def _name(number: int) -> str:
    return f"ray-{number}"


class _Crew:
    """The workers of one run."""

    def __init__(self, ray: Any, settings: Ray, setup: WorkerSetup) -> None:
        self.ray, self.settings, self.setup = ray, settings, setup
        self.done: set[str] = set()
        self.deaths: Counter[str] = Counter()  # by video
        self.idle_deaths: Counter[int] = Counter()  # by worker, since its last answer
        self.members: list[Any] = []
        self.at_work: set[int] = set()  # workers that have said so since they were last begun
        self.queue: Any = None

    def run(self, items: Sequence[VideoQuestions]) -> Iterator[Event]:
        """Every question once, whatever becomes of the workers."""
        ray = self.ray
        self._engage(items)
        streams = {self._begin(n): n for n in range(len(self.members))}
        resting: set[int] = set()
        questions = sum(len(item.questions) for item in items)
        while len(self.done) < questions:  # some workers may never have found a place
            if not streams:
                streams = self._once_more(items)
                resting.clear()
            (ready,), _ = ray.wait(list(streams), num_returns=1, fetch_local=False)
            number = streams.pop(ready)
            try:
                event: Event = ray.get(next(ready))
            except StopIteration:
                resting.add(number)
                continue
            except ray.exceptions.RayTaskError as error:  # raised by the worker's own code, which goes on to live
                self._explain(error)
                raise
            except ray.exceptions.RayActorError as error:
                yield from self._recover(number, error)
                streams |= {
                    self._begin(n): n for n in (number, *resting)
                }  # it may never find a place again; they have one
                resting.clear()
                continue
            except ray.exceptions.ObjectLostError:  # gone with its machine, as the worker will turn out to be
                streams[ready] = number
                continue
            streams[ready] = number
            if isinstance(event, WorkerStarted):
                self.at_work.add(number)
                yield event
            elif isinstance(event, Prefill):
                yield event
            elif event.question not in self.done:
                self.idle_deaths[number] = 0
                self.done.add(event.question)
                yield event

    def dismiss(self) -> None:
        """End the workers; a cluster that is not ours gets its place back."""
        for actor in filter(None, [*self.members, self.queue]):
            self.ray.kill(actor)

    def _engage(self, items: Sequence[VideoQuestions]) -> None:
        """The queue, on the machine of this command so that no other's loss is the queue's; and the workers."""
        ray = self.ray
        gpus = self.settings.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        self._check_room({"CPU": self.settings.cpus_per_worker, "GPU": gpus})
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        here = affinity(ray.get_runtime_context().get_node_id(), soft=False)
        self.queue = ray.remote(num_cpus=0, scheduling_strategy=here)(_Queue).remote(items)
        member = ray.remote(num_cpus=self.settings.cpus_per_worker, num_gpus=gpus, max_restarts=-1)(_Member)
        self.members = [member.remote(self.setup, n) for n in range(min(self.settings.workers, len(items)))]

    def _check_room(self, wanted: Mapping[str, float]) -> None:
        """A worker that fits nowhere would be waited for forever."""
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if any(all(machine.get(what, 0.0) >= n for what, n in wanted.items()) for machine in machines):
            return
        there = "; ".join(", ".join(f"{m.get(what, 0.0):g} {what}" for what in wanted) for m in machines)
        text = (
            f"executor.cpus_per_worker={wanted['CPU']:g}, executor.gpus_per_worker={wanted['GPU']:g}: no machine has "
            f"that many (there is: {there})"
        )
        if self.settings.address is None:
            raise ConfigError(f"{text}. Ask for fewer.")
        print(f"{text}; waiting until one joins the cluster.", file=sys.stderr, flush=True)

    def _begin(self, number: int) -> Any:
        return self.members[number].work.options(num_returns="streaming").remote(self.queue)

    def _explain(self, error: Any) -> None:
        """Raise what a user can do something about; a programming error stays what it is."""
        if isinstance(error.cause, EvalkitError):
            raise error.cause from None
        if isinstance(error.cause, self.ray.exceptions.RayActorError):
            raise RunError(
                "the queue of videos was lost, or the connection to it. The same command continues."
            ) from None

    def _recover(self, number: int, error: Exception) -> Iterator[Record]:
        """A worker died: Ray restarts it, its unanswered questions go to whoever pulls next. A video that keeps taking
        workers down costs its own questions."""
        if number not in self.at_work and isinstance(error, self.ray.exceptions.ActorUnavailableError):
            time.sleep(_UNAVAILABLE_S)  # it is being restarted, or Ray is not yet sure that its machine is gone
            return
        self.at_work.discard(number)
        left = list(filter(None, map(self._unanswered, self.ray.get(self.queue.taken_by.remote(number)))))
        if not left:
            self._count_idle_death(number, error)
        again = []
        for position, item in enumerate(left):
            self.deaths[item.video.id] += position == 0  # the one at hand; the others were only being decoded
            if self.deaths[item.video.id] < self.settings.tries:
                again.append(item)
                continue
            cause = ModelError(f"{item.video.path} ended its worker {self.settings.tries} times.", kind="worker_died")
            for question in item.questions:
                self.done.add(question.id)
                yield failed(self.setup.task, item, question, cause, self.setup.labels)
        self.ray.get(self.queue.give_back.remote(number, again[::-1]))

    def _count_idle_death(self, number: int, error: Exception) -> None:
        """A worker that ends before it has taken a video would do so for ever."""
        self.idle_deaths[number] += 1
        if self.idle_deaths[number] >= self.settings.tries:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunError(
                f"worker {_name(number)} ended {self.settings.tries} times before it could take a video ({reason}). Is "
                f"there memory for the model, {self.settings.workers} times? Try executor=local to see its own words."
            )

    def _once_more(self, items: Sequence[VideoQuestions]) -> dict[Any, int]:
        """All workers are through, but answers were lost on their way."""
        self.idle_deaths[-1] += 1
        if self.idle_deaths[-1] > self.settings.tries:
            raise RunError("answers keep being lost between Ray's workers and this process. The same command goes on.")
        self.ray.get(self.queue.give_back.remote(-1, list(filter(None, map(self._unanswered, items)))))
        return {self._begin(n): n for n in range(len(self.members))}

    def _unanswered(self, item: VideoQuestions) -> VideoQuestions | None:
        questions = tuple(q for q in item.questions if q.id not in self.done)
        return replace(item, questions=questions) if questions else None
