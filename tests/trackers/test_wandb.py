"""wandb for real: offline files, a run that is resumed, an online one without network."""

import json
import socket
from pathlib import Path

import pytest

from tests.helpers import only_run, run_command, toy_arguments
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


def test_an_unreachable_server_costs_nothing(data, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = "0" * 40
    server = {"WANDB_MODE": None, "WANDB_API_KEY": key, "WANDB_BASE_URL": f"http://127.0.0.1:{port}"}
    server["WANDB_INIT_TIMEOUT"] = "4"
    done = run_command(*arguments(data, tmp_path, "tracker=wandb", "limit=2"), env=server)
    assert done.returncode == 0, done.stderr
    assert "wandb is not to be had online" in done.stderr
    assert "Traceback" not in done.stderr
    assert len((only_run(tmp_path) / "records.jsonl").read_text().splitlines()) == 2
    assert list(only_run(tmp_path).glob("wandb/offline-run-*"))
    kept = "".join(p.read_text("latin-1") for p in tmp_path.rglob("*") if p.is_file())
    assert key not in kept
