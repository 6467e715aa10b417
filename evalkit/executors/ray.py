"""`executor=ray` (the extra `ray`): workers on several GPUs or machines.

Ray places the workers, restarts those that die and transfers the data. Workers take videos from a queue, the longest
first, so that no worker starts a long video at the end. Records are sent to the process that started the run, which
writes them.
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
_GET_S = 30.0  # for one event that is ready, a few kilobytes
_PORT = 6379  # Ray's default


@dataclass
class Ray(Executor):
    """Workers on one machine or a Ray cluster.

    `workers`: their number; each loads a model. Those for which there are no resources yet start when there are.
    `gpus_per_worker`: null: 1 if the cluster has GPUs, else 0.
    `address`: of a running cluster (`auto`, `ray://...`); null: Ray is started on this machine.
    `tries`: when a video has ended its worker this many times, its questions are marked as failed.
    """

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
        workers = _Workers(ray, self, setup)
        try:
            yield from workers.run(items)
        finally:
            workers.stop()
            if own:
                ray.shutdown()


def _ray() -> Any:
    try:
        import ray
    except ModuleNotFoundError:
        raise ConfigError(f"executor=ray needs the package ray: {install_hint('ray')}.") from None
    return ray


def _start(ray: Any, address: str | None) -> None:
    """Start Ray, or connect to the cluster at `address`. Without the explicit address "local", Ray would connect to the
    cluster that RAY_ADDRESS names, or to one that runs on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the future default of Ray; avoids its warning
    own = {"address": "local", "include_dashboard": False}
    if address:
        _check_reachable(address)
    with _sigterm_handler_kept():
        try:
            ray.init(**({"address": address} if address else own), log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise ConfigError(f"executor.address={address}: no Ray cluster answers there ({error}).") from None


def _check_reachable(address: str) -> None:
    """Raise ConfigError if nothing listens at the address. Ray itself would retry for minutes."""
    host, _, port = address.removeprefix("ray://").partition(":")
    if address == "auto" or not host:
        return
    try:
        socket.create_connection((host, int(port or _PORT)), timeout=_CONNECT_S).close()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"executor.address={address}: no connection ({error}). Check that the head node runs, and the port."
        ) from None


@contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Restore the handler of SIGTERM, which Ray replaces: evalkit handles SIGTERM like Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class _Queue:
    """The videos that no worker has taken yet, and those that each worker has taken. It runs in a Ray actor of its
    own."""

    def __init__(self, items: Sequence[VideoQuestions]) -> None:
        self.waiting = sorted(items, key=_seconds)  # the longest is the last
        self.taken: dict[int, list[VideoQuestions]] = {}

    def take(self, worker: int) -> VideoQuestions | None:
        if not self.waiting:
            return None
        item = self.waiting.pop()
        self.taken.setdefault(worker, []).append(item)
        return item

    def give_back(self, worker: int, items: Sequence[VideoQuestions]) -> None:
        """Queue the unanswered videos of a dead worker again, before all others."""
        self.taken[worker] = []
        self.waiting.extend(items)

    def taken_by(self, worker: int) -> list[VideoQuestions]:
        return self.taken.get(worker, [])


def _seconds(item: VideoQuestions) -> float:
    return item.video.duration_s or 0.0


class _RayWorker:
    """One worker, in a Ray actor. The model is built in `work`, so that its errors are those of a task and keep their
    type."""

    def __init__(self, setup: WorkerSetup, number: int) -> None:
        self.setup = replace(setup, labels=replace(setup.labels, worker=_name(number)))
        self.number = number
        self.worker: ModelWorker | None = None
        self.hardware: dict[str, Any] = {}

    def work(self, queue: Any) -> Iterator[Event]:
        """Yield the worker's hardware, then prefills and records."""
        import ray

        self.hardware = self.hardware or hardware()
        yield WorkerStarted(_name(self.number), self.hardware)
        self.worker = self.worker or ModelWorker(self.setup)
        yield from self.worker.answer(iter(lambda: ray.get(queue.take.remote(self.number)), None))


def _name(number: int) -> str:
    return f"ray-{number}"


class _Workers:
    """The workers of one run."""

    def __init__(self, ray: Any, settings: Ray, setup: WorkerSetup) -> None:
        self.ray, self.settings, self.setup = ray, settings, setup
        self.done: set[str] = set()
        self.deaths: Counter[str] = Counter()  # of workers, by video
        self.idle_deaths: Counter[int] = Counter()  # by worker: deaths without a video since its last answer
        self.actors: list[Any] = []
        self.at_work: set[int] = set()  # workers that have yielded WorkerStarted since their last start
        self.queue: Any = None

    def run(self, items: Sequence[VideoQuestions]) -> Iterator[Event]:
        """Yield one record for each question, also when workers die."""
        ray = self.ray
        self._start_workers(items)
        streams = {self._begin(n): n for n in range(len(self.actors))}
        finished: set[int] = set()
        questions = sum(len(item.questions) for item in items)
        while len(self.done) < questions:  # not until all workers end: some may never start
            if not streams:
                streams = self._restart(items)
                finished.clear()
            (ready,), _ = ray.wait(list(streams), num_returns=1, fetch_local=False)
            number = streams.pop(ready)
            try:
                event: Event = ray.get(next(ready), timeout=_GET_S)
            except StopIteration:
                finished.add(number)
                continue
            except ray.exceptions.RayTaskError as error:  # an error in the worker's code; its process still runs
                self._raise_users_mistake(error)
                raise
            except ray.exceptions.RayActorError as error:
                yield from self._recover(number, error)
                # The restarted worker may find no resources. Those that had finished still have theirs: start all.
                streams |= {self._begin(n): n for n in (number, *finished)}
                finished.clear()
                continue
            # Lost with its machine, or with a process that was killed while it sent it: ray.get would then wait for
            # ever. The next call reports the worker as dead; a record that was lost is asked for again at the end.
            except (ray.exceptions.ObjectLostError, ray.exceptions.GetTimeoutError):
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

    def stop(self) -> None:
        """End the workers, and release their resources in a cluster that goes on."""
        for actor in filter(None, [*self.actors, self.queue]):
            self.ray.kill(actor)

    def _start_workers(self, items: Sequence[VideoQuestions]) -> None:
        """Start the queue and the workers. The queue is on this machine, so that it outlives other machines."""
        ray = self.ray
        gpus = self.settings.gpus_per_worker
        if gpus is None:
            gpus = 1.0 if ray.cluster_resources().get("GPU") else 0.0
        self._check_resources({"CPU": self.settings.cpus_per_worker, "GPU": gpus})
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        here = affinity(ray.get_runtime_context().get_node_id(), soft=False)
        self.queue = ray.remote(num_cpus=0, scheduling_strategy=here)(_Queue).remote(items)
        actor = ray.remote(num_cpus=self.settings.cpus_per_worker, num_gpus=gpus, max_restarts=-1)(_RayWorker)
        self.actors = [actor.remote(self.setup, n) for n in range(min(self.settings.workers, len(items)))]

    def _check_resources(self, wanted: Mapping[str, float]) -> None:
        """Check that some machine has the resources of a worker, because Ray waits for one without end. Raises
        ConfigError if Ray runs on this machine only; in a cluster a machine may join later."""
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if any(all(machine.get(what, 0.0) >= n for what, n in wanted.items()) for machine in machines):
            return
        there = "; ".join(", ".join(f"{m.get(what, 0.0):g} {what}" for what in wanted) for m in machines)
        text = (
            f"executor.cpus_per_worker={wanted['CPU']:g}, executor.gpus_per_worker={wanted['GPU']:g}: no machine has "
            f"that many (there is: {there})"
        )
        if self.settings.address is None:
            raise ConfigError(f"{text}. Set lower values.")
        print(f"{text}; waiting until one joins the cluster.", file=sys.stderr, flush=True)

    def _begin(self, number: int) -> Any:
        return self.actors[number].work.options(num_returns="streaming").remote(self.queue)

    def _raise_users_mistake(self, error: Any) -> None:
        """Raise the EvalkitError behind an error of Ray. Returns for a programming error."""
        if isinstance(error.cause, EvalkitError):
            raise error.cause from None
        if isinstance(error.cause, self.ray.exceptions.RayActorError):
            raise RunError(
                "the process with the queue of videos ended, or the connection to it. The same command continues."
            ) from None

    def _recover(self, number: int, error: Exception) -> Iterator[Record]:
        """After the death of a worker, which Ray restarts: queue its unanswered questions again. Yield failed records
        for a video that has ended its worker `tries` times."""
        if number not in self.at_work and isinstance(error, self.ray.exceptions.ActorUnavailableError):
            time.sleep(_UNAVAILABLE_S)  # it is being restarted, or Ray does not know yet that its machine is lost
            return
        self.at_work.discard(number)
        left = list(filter(None, map(self._unanswered, self.ray.get(self.queue.taken_by.remote(number)))))
        if not left:
            self._count_idle_death(number, error)
        again = []
        for position, item in enumerate(left):
            self.deaths[item.video.id] += position == 0  # the model had the first; the others were being decoded
            if self.deaths[item.video.id] < self.settings.tries:
                again.append(item)
                continue
            cause = ModelError(f"{item.video.path} ended its worker {self.settings.tries} times.", kind="worker_died")
            for question in item.questions:
                self.done.add(question.id)
                yield failed(self.setup.task, item, question, cause, self.setup.labels)
        self.ray.get(self.queue.give_back.remote(number, again[::-1]))

    def _count_idle_death(self, number: int, error: Exception) -> None:
        """Raise RunError when a worker has ended `tries` times before it took a video."""
        self.idle_deaths[number] += 1
        if self.idle_deaths[number] >= self.settings.tries:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunError(
                f"worker {_name(number)} ended {self.settings.tries} times before it could take a video ({reason}). "
                f"Is there memory for {self.settings.workers} models? executor=local shows the model's own error."
            )

    def _restart(self, items: Sequence[VideoQuestions]) -> dict[Any, int]:
        """All workers have finished, but records were lost on the way: ask the missing questions again."""
        self.idle_deaths[-1] += 1
        if self.idle_deaths[-1] > self.settings.tries:
            raise RunError(
                "answers were lost repeatedly between Ray's workers and this process. The same command continues."
            )
        self.ray.get(self.queue.give_back.remote(-1, list(filter(None, map(self._unanswered, items)))))
        return {self._begin(n): n for n in range(len(self.actors))}

    def _unanswered(self, item: VideoQuestions) -> VideoQuestions | None:
        questions = tuple(q for q in item.questions if q.id not in self.done)
        return replace(item, questions=questions) if questions else None
