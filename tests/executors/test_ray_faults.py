"""A Ray cluster in which workers die in their model, machines are removed, and the command is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from evalkit.errors import ConfigError, RunError
from evalkit.evaluate import Labels
from evalkit.executors.base import WorkerSetup, WorkerStarted
from evalkit.executors.ray import Ray
from evalkit.task import DataSet
from evalkit.types import Decoding, Record
from evalkit.video.settings import VideoSettings
from tests.faulty import Faulty
from tests.helpers import ROOT, command, only_run, run_here, stable, toy_arguments
from tests.toy import Toy, write_toy

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")

QUESTIONS = 12
ENVIRONMENT = {"PYTHONPATH": str(ROOT), "RAY_num_server_call_thread": "1", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), videos=4, questions=3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[object]:
    """A cluster that Ray sees as two machines of one core each."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        made.second = made.add_node(num_cpus=1)
        ray.init(address=made.address, log_to_driver=False)
        yield made
        ray.shutdown()
        made.shutdown()


def records_of(data: Path, model: Faulty, **settings) -> Iterator[Record]:
    """The records that the executor yields."""
    task = Toy(allow_missing=True)
    items = task.read(DataSet(data))
    setup = WorkerSetup(task, model, VideoSettings(workers=1), Decoding(), Labels("key", "faulty"))
    executor = Ray(**{"workers": 2, "tries": 2, "cpus_per_worker": 1.0, **settings})
    started = []
    for event in executor.run(setup, items):
        if isinstance(event, Record):
            yield event
        elif isinstance(event, WorkerStarted):
            started.append(event)
    assert started and all("cores" in worker.hardware for worker in started)


@pytest.mark.slow
def test_a_video_that_ends_its_workers_fails_alone(cluster, data: Path) -> None:
    records = list(records_of(data, Faulty(die_on="v2-1")))
    assert Counter(r.question for r in records) == Counter(f"v{v}-{q}" for v in range(4) for q in range(3))
    failed = {r.question: r.error for r in records if r.status == "failed"}
    assert sorted(failed) == ["v2-1", "v2-2"]
    assert all(
        error["kind"] == "worker_died" and "v2.mp4 ended its worker 2 times" in error["message"]
        for error in failed.values()
    )


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_run_with_one_message(cluster, data: Path) -> None:
    with pytest.raises(RunError, match=r"worker ray-\d ended 2 times before it could take a video"):
        list(records_of(data, Faulty(die_in_build=True)))


@pytest.mark.slow
def test_a_programming_error_keeps_its_traceback_and_what_came_before(cluster, data: Path) -> None:
    records: list[Record] = []
    with pytest.raises(ZeroDivisionError, match="a bug of the model's") as raised:
        records.extend(records_of(data, Faulty(bug_on="v0-2", seconds=0.05), workers=1))
    assert "tests/faulty.py" in str(raised.value)  # the place in the worker
    assert len(records) == 11  # the shortest video is the last


def test_workers_that_fit_on_no_machine_are_not_waited_for(cluster, data: Path) -> None:
    with pytest.raises(ConfigError, match=r"gpus_per_worker=4: no machine has that many \(there is: .* 0 GPU"):
        list(records_of(data, Faulty(), gpus_per_worker=4.0))


@pytest.mark.slow
def test_a_machine_that_leaves_costs_no_answer(cluster, data: Path) -> None:
    records = []
    for record in records_of(data, Faulty(seconds=0.4)):
        records.append(record)
        if cluster.second is not None and len({r.worker for r in records}) == 2:
            cluster.remove_node(cluster.second, allow_graceful=False)
            cluster.second = None
    assert cluster.second is None, "the second machine had no part in it"
    assert Counter(r.question for r in records) == Counter(f"v{v}-{q}" for v in range(4) for q in range(3))
    assert all(r.status != "failed" for r in records)


# The whole command


def started(data: Path, results: Path, *more: str) -> subprocess.Popen[str]:
    words = toy_arguments(
        data, results, "task.allow_missing=true", "executor=ray", "executor.workers=2", "executor.cpus_per_worker=0.5",
        "model.seconds=0.5", *more,
    )  # fmt: skip
    return subprocess.Popen(
        command(*words),
        cwd=ROOT,
        env={
            **os.environ,
            **ENVIRONMENT,
            "RAY_ADDRESS": "192.0.2.1:6379",
        },  # an address without a cluster, which must not be used
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_answers(process: subprocess.Popen[str], results: Path, count: int) -> None:
    deadline = time.monotonic() + 90
    while sum(path.read_bytes().count(b"\n") for path in results.glob("*/*/*/records.jsonl")) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["ctrl-c", "SIGTERM", "SIGKILL"])
def test_a_driver_that_is_stopped_leaves_no_process_behind(data: Path, tmp_path: Path, how: str) -> None:
    process = started(data, tmp_path)
    wait_for_answers(process, tmp_path, 2)
    family = psutil.Process(process.pid).children(recursive=True)
    words = {child.pid: " ".join(child.cmdline()) for child in family}
    own = {pid for pid, line in words.items() if "evalkit" in line or "_RayWorker" in line}
    assert any("evalkit.video.process_main" in words[pid] for pid in own) and any(
        "_RayWorker" in words[pid] for pid in own
    )
    if how == "ctrl-c":
        os.killpg(process.pid, signal.SIGINT)  # to all foreground processes, as a terminal does
    else:
        process.send_signal(signal.Signals[how])
    said, _ = process.communicate(timeout=60)
    assert process.returncode == (-9 if how == "SIGKILL" else 130), said
    agents = [child for child in family if child.pid not in own] if how == "SIGKILL" else []
    assert psutil.wait_procs([child for child in family if child not in agents], timeout=30)[1] == []
    for agent in agents:  # processes of Ray that do not always end
        with suppress(psutil.NoSuchProcess):
            agent.kill()
    if how != "SIGKILL":
        assert "stopping after this question" in said and "The same command continues" in said
        assert "Traceback" not in said
    if how == "SIGTERM":
        assert run_here(toy_arguments(data, tmp_path, "task.allow_missing=true")) == 0
        assert run_here(toy_arguments(data, tmp_path / "unbroken", "task.allow_missing=true")) == 0
        assert stable(only_run(tmp_path) / "records.jsonl") == stable(only_run(tmp_path / "unbroken") / "records.jsonl")
