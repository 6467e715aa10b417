"""wandb for real: offline files, a run that is resumed, an online one without network."""

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.helpers import ROOT, command, only_run, run_command, run_here, toy_arguments
from tests.toy import write_toy


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy(tmp_path_factory.mktemp("toy"), videos=2)


def arguments(data, results, *more):
    named = toy_arguments(data, results, "task.allow_missing=true", *more)
    return [a for a in named if a != "tracker=csv"]


def logged(run: Path) -> str:
    """Everything in the offline files of a run, as text."""
    return "".join(p.read_bytes().decode("latin-1") for p in sorted(run.glob("wandb/offline-run-*/*.wandb")))


def test_offline_by_default_with_scores_efficiency_and_samples(data, tmp_path):
    done = run_command(*arguments(data, tmp_path), env={"WANDB_MODE": None})
    assert done.returncode == 3 and "warning" not in done.stderr, done.stderr  # 6 of 12 questions: allow_missing
    run = only_run(tmp_path)
    text = logged(run)
    assert all(word in text for word in ("accuracy_ci_low", "efficiency/videos", "progress/score", run.name))
    (table,) = run.glob("wandb/offline-run-*/files/media/table/samples*.json")
    rows = json.loads(table.read_text())
    assert len(rows["data"]) == 6
    assert "reply" in rows["columns"]


def test_a_resumed_run_keeps_its_id(data, tmp_path):
    for limit in ("limit=2", "limit=4"):
        assert run_command(*arguments(data, tmp_path, limit), env={"WANDB_MODE": None}).returncode == 0
    runs = list(only_run(tmp_path).glob("wandb/offline-run-*"))
    assert len(runs) == 2
    assert len({path.name.rpartition("-")[2] for path in runs}) == 1


def test_an_unreachable_server_costs_nothing(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("evalkit.trackers.wandb._UPLOAD_S", 4.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = "0" * 40
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{port}")
    assert run_here(arguments(data, tmp_path, "tracker=wandb", "limit=2")) == 0
    assert "warning: Wandb stopped: the wandb server did not take the run" in capsys.readouterr().err
    assert len((only_run(tmp_path) / "records.jsonl").read_text().splitlines()) == 2
    assert list(only_run(tmp_path).glob("wandb/offline-run-*"))
    kept = "".join(p.read_text("latin-1") for p in tmp_path.rglob("*") if p.is_file())
    assert key not in kept


class SilentServer:
    """Accepts connections and never answers, as a server behind a broken proxy does."""

    def __enter__(self):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.taken = []
        self.thread = threading.Thread(target=self._take, daemon=True)
        self.thread.start()
        return self

    def _take(self):
        try:
            while True:
                self.taken.append(self.listening.accept()[0])
        except OSError:
            pass  # closed

    def __exit__(self, *_):
        self.listening.close()
        for connection in self.taken:
            connection.close()

    @property
    def variables(self):
        host, port = self.listening.getsockname()
        return {"WANDB_API_KEY": "0" * 40, "WANDB_BASE_URL": f"http://{host}:{port}", "WANDB_MODE": "online"}


def test_a_server_that_never_answers_costs_no_answer_and_ends_with_a_command(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("evalkit.trackers.wandb._UPLOAD_S", 6.0)
    with SilentServer() as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        assert run_here(arguments(data, tmp_path, "tracker=wandb", "limit=2")) == 0
        said = capsys.readouterr().err
        assert server.taken, said
    run = only_run(tmp_path)
    assert "warning: Wandb stopped: the wandb server did not take the run within 6 s" in said
    assert f"wandb sync {run}/wandb/offline-run-" in said
    assert len((run / "records.jsonl").read_text().splitlines()) == 2
    assert "efficiency/videos" in logged(run)


def test_a_killed_run_leaves_nothing_in_the_temporary_folder(data, tmp_path):
    """What wandb made there lies in the run's folder, and is gone after the next start."""
    place = tmp_path / "tmp"
    place.mkdir()
    words = command(*arguments(data, tmp_path / "r", "model.seconds=0.2"))
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "TMPDIR": str(place), "WANDB_MODE": "offline"})
    deadline = time.monotonic() + 60
    while not list((tmp_path / "r").glob("*/*/*/prefills.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    run = only_run(tmp_path / "r")
    while not (run / "records.jsonl").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert [path.name for path in place.iterdir() if "wandb" in path.name] == []
    done = run_command(*arguments(data, tmp_path / "r"), env={"TMPDIR": str(place), "WANDB_MODE": "offline"})
    assert done.returncode == 3, done.stderr
    assert list((run / "wandb").glob("temporary/*")) == []
