"""Ray on this machine: several workers, half of them killed during the run, and each answer once."""

import json
import os
import subprocess
import time

import psutil
import pytest

from evalkit.errors import ConfigError
from evalkit.executors.ray import Ray, _Queue
from evalkit.types import Question, Video, VideoQuestions
from tests.helpers import ROOT, command, only_run, run_command, run_here, stable, toy_arguments
from tests.toy import write_toy

pytest.importorskip("ray", reason="the extra [ray] is not installed")

WORKERS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), videos=8, questions=6)


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    results = tmp_path_factory.mktemp("local")
    assert run_here(arguments(data, results)) == 0
    return stable(only_run(results) / "records.jsonl")


def arguments(data, results, *more):
    return toy_arguments(data, results, "task.allow_missing=true", *more)


def on_ray(data, results, *more):
    return arguments(
        data, results, "executor=ray", f"executor.workers={WORKERS}", "executor.cpus_per_worker=0.5", *more
    )


ENVIRONMENT = {"PYTHONPATH": str(ROOT), "RAY_num_server_call_thread": "1"}


def start(data, results, *more):
    words = command(*on_ray(data, results, *more))
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def worker_processes(process):
    """The worker processes of a run: Ray names them after their actor."""
    children = psutil.Process(process.pid).children(recursive=True)
    found = []
    for child in children:
        try:
            if "_RayWorker" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def answers(results):
    return sum(path.read_bytes().count(b"\n") for path in results.glob("*/*/*/records.jsonl"))


@pytest.mark.slow
def test_half_the_workers_die_and_every_answer_comes_once(data, unbroken, tmp_path):
    process = start(data, tmp_path, "model.seconds=0.3")
    deadline = time.monotonic() + 90
    while answers(tmp_path) < 8 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    alive = worker_processes(process)
    assert len(alive) >= WORKERS // 2
    for victim in alive[: WORKERS // 2]:
        victim.kill()
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said
    records = only_run(tmp_path) / "records.jsonl"
    assert stable(records) == unbroken
    assert len({json.loads(line)["worker"] for line in records.read_text().splitlines()}) > 1


@pytest.mark.slow
def test_a_run_begun_on_ray_is_continued_in_one_process(data, unbroken, tmp_path):
    process = start(data, tmp_path, "model.seconds=0.2")
    deadline = time.monotonic() + 90
    while answers(tmp_path) < 5 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    process.kill()
    process.communicate()
    assert 0 < answers(tmp_path) < len(unbroken)
    assert run_here(arguments(data, tmp_path)) == 0
    assert stable(only_run(tmp_path) / "records.jsonl") == unbroken


def test_workers_that_find_no_place_do_not_hold_up_the_run(data, unbroken, tmp_path):
    done = run_command(*on_ray(data, tmp_path, "executor.cpus_per_worker=2", "executor.workers=3"), env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert stable(only_run(tmp_path) / "records.jsonl") == unbroken


def test_a_mistake_in_the_model_is_one_message(data, tmp_path):
    done = run_command(*on_ray(data, tmp_path, "model.rule=unifrom"), env=ENVIRONMENT)
    assert done.returncode == 1, done.stderr
    assert "unifrom" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_longest_video_goes_first_and_what_comes_back_goes_before_all():
    items = [VideoQuestions(Video(str(s), ROOT / str(s), duration_s=s), (Question("q", "t"),)) for s in (5, 50, 1, 30)]
    queue = _Queue(items)
    first, second = queue.take(0), queue.take(1)
    assert (first.video.duration_s, second.video.duration_s) == (50, 30)
    queue.give_back(1, [second])
    assert queue.taken_by(1) == []
    assert [queue.take(0).video.duration_s for _ in range(3)] == [30, 5, 1]
    assert queue.take(0) is None


@pytest.mark.parametrize("values", [{"workers": 0}, {"tries": 0}, {"gpus_per_worker": -1.0}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(ConfigError):
        Ray(**values)


def test_an_address_where_nothing_listens_is_named_at_once(data, tmp_path):
    started = time.monotonic()
    with pytest.raises(ConfigError, match=r"executor\.address=127\.0\.0\.1:9: no connection"):
        run_here(arguments(data, tmp_path, "executor=ray", "executor.address=127.0.0.1:9"))
    assert time.monotonic() - started < 30
