"""SIGKILL at any moment loses at most the question being answered; Ctrl-C loses nothing."""

import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from evalkit.runs import read_lines
from tests.helpers import ROOT, command, only_run, run_command, run_here, stable, toy_arguments
from tests.toy import write_toy

QUESTIONS = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), videos=6, questions=10)


def arguments(data: Path, results: Path, *more: str) -> list[str]:
    return toy_arguments(data, results, "task.allow_missing=true", "model.seconds=0.03", *more)


def started(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command(*words), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def lines(results: Path) -> int:
    found = list(results.glob("*/*/*/records.jsonl"))
    return found[0].read_bytes().count(b"\n") if found else 0


def wait_for_more(process: subprocess.Popen[str], results: Path, than: int) -> None:
    deadline = time.monotonic() + 60
    while lines(results) <= than and process.poll() is None:
        assert time.monotonic() < deadline, "the run makes no progress"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    results = tmp_path_factory.mktemp("unbroken")
    assert run_here(arguments(data, results, "model.seconds=0.0")) == 0
    return stable(only_run(results) / "records.jsonl")


@pytest.mark.slow
def test_twenty_kills_lose_no_answer_and_repeat_at_most_one_question_each(data, unbroken, tmp_path):
    results, asked_ids = tmp_path / "r", tmp_path / "asked"
    chance = random.Random(7)
    kills = 0
    while kills < 20 and lines(results) < QUESTIONS - 2:
        before = lines(results)
        process = started(*arguments(data, results, f"model.question_log={asked_ids}"))
        wait_for_more(process, results, before)
        time.sleep(chance.uniform(0, 0.06))
        process.kill()
        process.communicate()
        kills += 1
        assert lines(results) >= before, "an answer was lost"
    process = started(*arguments(data, results, f"model.question_log={asked_ids}"))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert stable(only_run(results) / "records.jsonl") == unbroken
    asked = Counter(asked_ids.read_text().split())
    assert kills >= 15
    assert len(asked) == QUESTIONS
    assert sum(asked.values()) - QUESTIONS <= kills  # each kill repeats at most one question


def test_ctrl_c_finishes_the_question_and_says_how_to_continue(data, unbroken, tmp_path):
    process = started(*arguments(data, tmp_path))
    wait_for_more(process, tmp_path, 3)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "The same command continues" in said
    assert "Traceback" not in said
    records, _, good = read_lines(only_run(tmp_path) / "records.jsonl")
    assert good == (only_run(tmp_path) / "records.jsonl").stat().st_size
    assert 0 < len(records) < QUESTIONS
    assert run_here(arguments(data, tmp_path, "model.seconds=0.0")) == 0
    assert stable(only_run(tmp_path) / "records.jsonl") == unbroken


def test_a_second_command_on_the_same_run_says_so(data, tmp_path):
    first = started(*arguments(data, tmp_path, "model.seconds=2"))  # longer than the second command takes to start
    wait_for_more(first, tmp_path, 0)
    second = run_command(*arguments(data, tmp_path))
    first.kill()
    first.communicate()
    assert second.returncode == 1
    assert "another process is working on" in second.stderr
    assert "Traceback" not in second.stderr
