"""Whatever becomes of a view: the run goes on, the records are whole, and the command that is named mends it."""

from __future__ import annotations

import errno
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from evalkit.errors import RunError
from evalkit.runs import files
from evalkit.trackers import csv as csv_module
from evalkit.trackers import settings as settings_module
from evalkit.trackers.base import Tracker, Trackers
from evalkit.trackers.console import ConsoleTracker
from tests.helpers import ROOT, only_run, run_here, stable, toy_arguments
from tests.toy import write_toy


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run that nothing disturbed."""
    results = tmp_path_factory.mktemp("whole")
    assert run_here(toy_arguments(data, results)) == 0
    return results


def views(results: Path) -> dict[str, str]:
    """The tables that hold no times."""
    run = only_run(results)
    return {"all runs": (results / "scores.csv").read_text(), "this run": (run / "scores.csv").read_text()}


class Broken(Tracker):
    """Raises at one moment, like a server that went away or a plot that cannot be drawn."""

    def __init__(self, moment: str) -> None:
        self.moment, self.closed, self.seen = moment, 0, 0

    def _may(self, moment: str) -> None:
        if moment == self.moment:
            raise ConnectionError(f"no answer at {moment}\nand a second line")

    def start(self, info) -> None:
        self._may("start")

    def record(self, record) -> None:
        self.seen += 1
        self._may("record")

    def finish(self, result) -> None:
        self._may("finish")

    def close(self) -> None:
        self.closed += 1
        self._may("close")


@pytest.mark.parametrize("moment", ["start", "record", "finish", "close"])
def test_a_tracker_may_fail_at_any_moment(data, whole, tmp_path, monkeypatch, capsys, moment) -> None:
    broken = Broken(moment)
    build = settings_module.TrackerSettings.build
    monkeypatch.setattr(
        settings_module.TrackerSettings,
        "build",
        lambda self, results: Trackers([broken, *build(self, results).trackers]),
    )
    assert run_here(toy_arguments(data, tmp_path)) == 0
    said = capsys.readouterr().err
    assert said.count(f"warning: Broken stopped: no answer at {moment}.") == 1
    assert "the same command, which asks nothing twice, makes it again" in said and "second line" not in said
    assert broken.closed == (2 if moment == "close" else 1)
    assert broken.seen == {"start": 0, "record": 1}.get(moment, 12)
    assert stable(only_run(tmp_path) / "records.jsonl") == stable(only_run(whole) / "records.jsonl")
    assert views(tmp_path) == views(whole)
    broken.moment = ""
    assert run_here(toy_arguments(data, tmp_path)) == 0  # the command that was named
    assert "warning" not in capsys.readouterr().err


def test_the_terminal_is_given_back_when_its_display_fails(data, tmp_path, monkeypatch, capsys) -> None:
    closed = []
    monkeypatch.setattr(ConsoleTracker, "record", lambda self, record: 1 / 0)
    monkeypatch.setattr(ConsoleTracker, "close", lambda self: closed.append(1))
    assert run_here(toy_arguments(data, tmp_path)) == 0
    assert closed and "ConsoleTracker stopped: division by zero" in capsys.readouterr().err


class FullDisk:
    """Refuses to write files of some names, as `write_atomically` would report it."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.write = files.write_atomically

    def __call__(self, path: Path, text: str) -> None:
        if path.name in self.names:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        self.write(path, text)


@pytest.mark.parametrize("name", ["scores.csv", "summary.json", "efficiency.csv"])
def test_a_full_disk_costs_a_table_and_the_named_command_makes_it(
    data, whole, tmp_path, monkeypatch, capsys, name
) -> None:
    with monkeypatch.context() as full:
        full.setattr(csv_module, "write_atomically", FullDisk(name))
        full.setattr("evalkit.runs.results.write_atomically", FullDisk(name))
        assert run_here(toy_arguments(data, tmp_path)) == 0
    said = capsys.readouterr().err
    assert "No space left on device" in said and "The records are complete" in said
    assert stable(only_run(tmp_path) / "records.jsonl") == stable(only_run(whole) / "records.jsonl")
    if name == "summary.json":
        assert "the same command, which asks nothing twice, makes it again" in said
        assert run_here(toy_arguments(data, tmp_path)) == 0
    else:
        (words,) = re.findall(r"`python (-m evalkit\.report [^`]+)`", said)
        again = subprocess.run([sys.executable, *shlex.split(words)], capture_output=True, text=True, cwd=ROOT)
        assert again.returncode == 0, again.stderr
    assert views(tmp_path) == views(whole)
    assert len((tmp_path / "efficiency.csv").read_text().splitlines()) == 2
    assert json.loads((only_run(tmp_path) / "summary.json").read_text())["scores"]["n"] == 12


def test_a_full_disk_at_the_end_leaves_the_records_in_the_order_they_came(
    data, whole, tmp_path, monkeypatch, capsys
) -> None:
    """Disorder is what another order of answering leaves: here two lines are exchanged before the run goes on."""
    assert run_here(toy_arguments(data, tmp_path, "limit=3")) == 0
    records = only_run(tmp_path) / "records.jsonl"
    lines = records.read_text(encoding="utf-8").splitlines(keepends=True)
    records.write_text("".join([lines[1], lines[0], *lines[2:]]), encoding="utf-8")
    with monkeypatch.context() as full:
        full.setattr("evalkit.runs.folder.write_atomically", FullDisk("records.jsonl"))
        assert run_here(toy_arguments(data, tmp_path)) == 0
    said = capsys.readouterr().err
    assert "the order of records.jsonl could not be written" in said
    assert len(stable(records)) == 12 and stable(records) != stable(only_run(whole) / "records.jsonl")
    assert run_here(toy_arguments(data, tmp_path)) == 0
    assert records.read_bytes().count(b"\n") == 12
    assert stable(records) == stable(only_run(whole) / "records.jsonl")


def test_a_submission_that_cannot_be_written_is_one_warning(data, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr("evalkit.task.Task.submission", lambda self, records, items: {"answers.json": "[]"})
    with monkeypatch.context() as full:
        full.setattr("evalkit.runs.results.write_atomically", FullDisk("answers.json"))
        assert run_here(toy_arguments(data, tmp_path)) == 0
    assert "warning: answers.json could not be written" in capsys.readouterr().err
    assert run_here(toy_arguments(data, tmp_path)) == 0
    assert (only_run(tmp_path) / "answers.json").read_text() == "[]"


def test_a_manifest_that_cannot_be_written_is_one_message(data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("evalkit.runs.manifest.write_atomically", FullDisk("manifest.json"))
    with pytest.raises(RunError, match=r"results cannot be written .*No space left.*Free disk space"):
        run_here(toy_arguments(data, tmp_path))
