"""Grading while the model runs: a reply is on the disk before its judge is asked, and the model does not wait."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.helpers import ROOT, command, only_run, run_here, stable, toy_arguments
from tests.toy import write_toy


class Judge(ThreadingHTTPServer):
    """Replies "1" after `delay_s`. `most`: the most requests at a time. `missing`: questions whose reply was not on the
    disk when the judge was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.delay_s, self.asked, self.now, self.most = 0.0, 0, 0, 0
        self.records: Path | None = None
        self.missing: list[str] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """Prints nothing: these tests kill clients."""


class Handler(BaseHTTPRequestHandler):
    server: Judge

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][0]["content"].partition(":")[0]
        server = self.server
        with server.lock:
            server.asked += 1
            server.now += 1
            server.most = max(server.most, server.now)
            files = server.records.glob("*/*/*/records.jsonl") if server.records else ()
            if server.records and not any(f'"question": "{question}"' in file.read_text() for file in files):
                server.missing.append(question)
        time.sleep(server.delay_s)
        with server.lock:
            server.now -= 1
        message = {"role": "assistant", "content": "1"}
        reply = json.dumps(
            {"id": "x", "object": "chat.completion", "created": 0, "model": "j",
             "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        ).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def judge() -> Iterator[Judge]:
    with Judge() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


def arguments(data: Path, results: Path, judge: Judge, *more: str) -> list[str]:
    named = [f"task.judge.base_url={judge.url}", "task.judge.model=j", "task.judge.workers=4"]
    words = toy_arguments(data, results, *named, *more)
    return [word.replace("task=toy", "task=judged_toy") for word in words]


def test_a_reply_is_on_the_disk_before_its_judge_is_asked(data: Path, tmp_path: Path, judge: Judge) -> None:
    judge.records = tmp_path / "r"
    assert run_here(arguments(data, tmp_path / "r", judge)) == 0
    assert judge.asked == 12 and judge.missing == []
    rows = stable(only_run(tmp_path / "r") / "records.jsonl")
    assert [(row["status"], row["score"]) for row in rows] == [("ok", 1.0)] * 12


def test_the_model_never_waits_for_the_judge(data: Path, tmp_path: Path, judge: Judge) -> None:
    """12 questions of 0.15 s and a judge of 0.5 s: 7.8 s one after another."""
    judge.delay_s = 0.5
    times: list[float] = []
    started = time.monotonic()
    assert run_here(arguments(data, tmp_path, judge, "model.seconds=0.15")) == 0
    times.append(time.monotonic() - started)
    assert judge.most >= 2
    started = time.monotonic()
    plain = toy_arguments(data, tmp_path / "plain", "model.seconds=0.15")
    assert run_here(plain) == 0
    times.append(time.monotonic() - started)
    assert times[0] < times[1] + 3.0


def test_one_limit_of_requests_for_the_run(data: Path, tmp_path: Path, judge: Judge) -> None:
    assert run_here(arguments(data, tmp_path, judge, "task.judge.max_calls=5")) == 3
    assert judge.asked == 5
    rows = stable(only_run(tmp_path) / "records.jsonl")
    assert sorted(row["status"] for row in rows) == ["ok"] * 5 + ["ungraded"] * 7
    assert all(row["reply"] == "A" for row in rows)


def test_what_was_killed_between_reply_and_grade_is_graded_on_the_next_start(
    data: Path, tmp_path: Path, judge: Judge
) -> None:
    judge.delay_s = 30.0
    results, asked_ids = tmp_path / "r", tmp_path / "asked"
    words = arguments(data, results, judge, f"model.question_log={asked_ids}")
    process = subprocess.Popen(command(*words), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (asked_ids.exists() and len(asked_ids.read_text().split()) == 12):
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    rows = stable(only_run(results) / "records.jsonl")
    assert [row["status"] for row in rows] == ["ungraded"] * 12 and all(row["reply"] == "A" for row in rows)
    judge.delay_s = 0.0
    assert run_here(words) == 0
    assert len(asked_ids.read_text().split()) == 12  # nothing was asked again
    rows = stable(only_run(results) / "records.jsonl")
    assert [(row["status"], row["score"]) for row in rows] == [("ok", 1.0)] * 12


def test_workers_of_ray_share_one_judge(data: Path, tmp_path: Path, judge: Judge) -> None:
    ray = ("executor=ray", "executor.workers=2", "executor.cpus_per_worker=0.5", "executor.gpus_per_worker=0")
    words = arguments(data, tmp_path, judge, "task.judge.max_calls=7", *ray)
    assert subprocess.run(command(*words), cwd=ROOT, capture_output=True, timeout=200).returncode == 3
    assert judge.asked == 7
