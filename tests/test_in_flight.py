"""Models without a prefill: requests for several videos at a time to a real HTTP server, and a server that is down."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evalkit.errors import RunError
from tests.helpers import only_run, run_here, stable, toy_arguments
from tests.toy import write_toy

VIDEOS = 16


class Server(ThreadingHTTPServer):
    """Answers "B" once `together` requests wait at the same time, or after two seconds."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/"
        self.together, self.status = VIDEOS, 200
        self.waiting = self.most = self.asked = 0
        self.changed = threading.Condition()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        server = self.server
        with server.changed:
            server.asked += 1
            server.waiting += 1
            server.most = max(server.most, server.waiting)
            server.changed.notify_all()
            server.changed.wait_for(lambda: server.most >= server.together, timeout=2)
            server.waiting -= 1
        body = json.dumps({"reply": "B"}).encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, daemon=True)
        thread.start()
        yield made
        made.shutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"), videos=VIDEOS, questions=2)


def arguments(data: Path, results: Path, url: str, *more: str) -> list[str]:
    words = toy_arguments(data, results, "task.allow_missing=true", "min_coverage=0", f"model.url={url}", *more)
    return [word.replace("model=scripted", "model=endpoint") for word in words]


def test_sixteen_requests_are_under_way_at_once(data: Path, tmp_path: Path, server: Server) -> None:
    assert run_here(arguments(data, tmp_path, server.url)) == 0
    assert server.most == VIDEOS
    rows = stable(only_run(tmp_path) / "records.jsonl")
    assert [row["question"] for row in rows] == [f"v{v}-{q}" for v in range(VIDEOS) for q in range(2)]
    assert {row["reply"] for row in rows} == {"B"}
    assert len({row["prefill"] for row in rows}) == VIDEOS
    efficiency = json.loads((only_run(tmp_path) / "summary.json").read_text())["efficiency"]
    assert efficiency["prefills"] == 0 and efficiency["prefill_s"] is None and efficiency["kv_bytes_used"] is None


def test_in_flight_or_one_by_one_gives_the_same_records(data: Path, tmp_path: Path, server: Server) -> None:
    server.together = 1
    assert run_here(arguments(data, tmp_path / "many", server.url)) == 0
    assert run_here(arguments(data, tmp_path / "one", server.url, "model.in_flight=1")) == 0
    many, one = (stable(only_run(tmp_path / name) / "records.jsonl") for name in ("many", "one"))
    assert [{**row, "run": ""} for row in many] == [{**row, "run": ""} for row in one]


def test_a_broken_video_fails_alone(data: Path, tmp_path: Path, server: Server) -> None:
    server.together = 1
    own = tmp_path / "data"
    (own / "videos").mkdir(parents=True)
    (own / "questions.jsonl").write_bytes((data / "questions.jsonl").read_bytes())
    for video in (data / "videos").iterdir():
        (own / "videos" / video.name).write_bytes(b"no video" if video.name == "v7.mp4" else video.read_bytes())
    assert run_here(arguments(own, tmp_path / "r", server.url)) == 0
    rows = stable(only_run(tmp_path / "r") / "records.jsonl")
    assert [row["question"] for row in rows if row["status"] == "failed"] == ["v7-0", "v7-1"]


def test_a_dead_server_stops_the_run_with_one_message(data: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(RunError, match=r"does not answer .* Start the server\. The run was stopped after 3 failures"):
        run_here(arguments(data, tmp_path, "http://127.0.0.1:9/", "model.in_flight=1"))
    assert time.monotonic() - started < 20
    rows = stable(only_run(tmp_path) / "records.jsonl")
    assert [row["status"] for row in rows] == ["failed"] * 3


def test_a_refused_key_stops_the_run_and_the_next_command_goes_on(data: Path, tmp_path: Path, server: Server) -> None:
    server.together, server.status = 1, 401
    with pytest.raises(RunError, match="the key was refused"):
        run_here(arguments(data, tmp_path, server.url))
    assert server.asked < 2 * VIDEOS
    server.status = 200
    assert run_here(arguments(data, tmp_path, server.url)) == 0
    assert {row["status"] for row in stable(only_run(tmp_path) / "records.jsonl")} == {"ok"}


def test_a_question_that_fails_is_marked_and_the_run_goes_on(data: Path, tmp_path: Path, server: Server) -> None:
    server.together, server.status = 1, 500
    assert run_here(arguments(data, tmp_path, server.url)) == 0
    assert {row["error"]["message"] for row in stable(only_run(tmp_path) / "records.jsonl")} == {"HTTP 500"}
