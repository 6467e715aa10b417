"""A real command is stopped in every phase by signals and full disks. It leaves no process, and can be continued."""

from __future__ import annotations

import resource
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from evalkit.runs import read_lines
from tests.helpers import ROOT, command, only_run, run_here, stable, toy_arguments
from tests.toy import write_toy

QUESTIONS = 18


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), videos=3, questions=6)


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    results = tmp_path_factory.mktemp("unbroken")
    assert run_here(arguments(data, results)) == 0
    return stable(only_run(results) / "records.jsonl")


def arguments(data: Path, results: Path, *more: str) -> list[str]:
    named = toy_arguments(data, results, "task.allow_missing=true", "video.workers=1", *more)
    return ["model=faulty" if word == "model=scripted" else word for word in named]


def started(*words: str, **more) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more
    )


def answers(results: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in results.glob("*/*/*/records.jsonl"))


def wait_until(process: subprocess.Popen[str], reached: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not reached():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run makes no progress"
        time.sleep(0.01)


def interrupted(process: subprocess.Popen[str], *signals: signal.Signals, between_s: float = 0.5) -> str:
    """Send `signals` and return the output. The process must end soon, with 130, and leave no process behind."""
    family = psutil.Process(process.pid).children(recursive=True)
    for number, sign in enumerate(signals):
        time.sleep(between_s if number else 0)
        process.send_signal(sign)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert psutil.wait_procs(family, timeout=10)[1] == []
    return said


def is_decoder(child: psutil.Process) -> bool:
    try:
        return "evalkit.video.process_main" in child.cmdline()
    except psutil.Error:  # one that has just ended
        return False


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_the_question_being_answered_is_finished(
    data: Path, unbroken: list[dict], tmp_path: Path, sign: signal.Signals
) -> None:
    process = started(*arguments(data, tmp_path, "model.seconds=0.4"))
    wait_until(process, lambda: answers(tmp_path) >= 2)
    before = answers(tmp_path)
    said = interrupted(process, sign)
    assert "stopping after this question" in said and "The same command continues" in said
    records, _, good = read_lines(only_run(tmp_path) / "records.jsonl")
    assert before < len(records) <= before + 2
    assert good == (only_run(tmp_path) / "records.jsonl").stat().st_size
    assert f"{len(records)} of {QUESTIONS} questions are answered" in said
    assert run_here(arguments(data, tmp_path)) == 0
    assert stable(only_run(tmp_path) / "records.jsonl") == unbroken


def test_a_second_signal_stops_in_the_middle_of_a_question(data: Path, unbroken: list[dict], tmp_path: Path) -> None:
    process = started(*arguments(data, tmp_path, "model.seconds=3"))
    wait_until(process, lambda: answers(tmp_path) >= 1)
    said = interrupted(process, signal.SIGINT, signal.SIGINT)
    assert "stopped. The same command continues" in said
    assert answers(tmp_path) == 1
    assert run_here(arguments(data, tmp_path)) == 0
    assert stable(only_run(tmp_path) / "records.jsonl") == unbroken


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_model_that_is_being_built_is_not_waited_for(data: Path, tmp_path: Path, sign: signal.Signals) -> None:
    mark = tmp_path / "building"
    process = started(*arguments(data, tmp_path / "r", "model.build_s=300", f"model.mark={mark}"))
    wait_until(process, mark.exists)
    said = interrupted(process, sign)
    assert "stopped. The same command continues" in said
    assert answers(tmp_path / "r") == 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_a_decoder_that_hangs_neither_holds_up_an_interruption_nor_outlives_it(
    data: Path, tmp_path: Path, sign: signal.Signals
) -> None:
    process = started(*arguments(data, tmp_path / "r"))
    decoders: list[psutil.Process] = []

    def stopped() -> bool:
        decoders[:] = [c for c in psutil.Process(process.pid).children() if is_decoder(c)]
        for decoder in decoders:
            decoder.send_signal(signal.SIGSTOP)  # while it starts, before its first frame
        return bool(decoders)

    wait_until(process, stopped)
    time.sleep(0.5)
    assert process.poll() is None and answers(tmp_path / "r") == 0
    said = interrupted(process, sign)
    assert "stopped. The same command continues" in said
    assert not any(decoder.is_running() for decoder in decoders)


def test_an_interrupted_cell_ends_the_sweep(data: Path, tmp_path: Path) -> None:
    process = started("-m", *arguments(data, tmp_path, "model.seconds=0.3", "model.frames=1,2,3"))
    wait_until(process, lambda: answers(tmp_path) >= 1)
    interrupted(process, signal.SIGINT)
    assert len(list(tmp_path.glob("*/*/*/records.jsonl"))) == 1  # the other cells were not begun


def test_a_full_disk_ends_the_run_with_one_message_and_it_goes_on_when_there_is_room(
    data: Path, unbroken: list[dict], tmp_path: Path
) -> None:
    """The kernel limits files to 12,000 bytes, about eight answers. Its signal SIGXFSZ must not end the process without
    a message."""
    limit = 12_000
    process = started(
        *arguments(data, tmp_path), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )
    said, _ = process.communicate(timeout=90)
    assert process.returncode == 1, said
    (message,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert "an answer could not be written" in message and "Everything before it is intact" in message
    assert "Traceback" not in said
    records, _, good = read_lines(only_run(tmp_path) / "records.jsonl")
    assert 2 <= len(records) < QUESTIONS
    assert good == (only_run(tmp_path) / "records.jsonl").stat().st_size <= limit
    kept = (only_run(tmp_path) / "records.jsonl").read_bytes()
    assert run_here(arguments(data, tmp_path)) == 0
    assert (only_run(tmp_path) / "records.jsonl").read_bytes().startswith(kept)
    assert stable(only_run(tmp_path) / "records.jsonl") == unbroken
