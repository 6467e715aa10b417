"""A run's summary, made again from its records: no model, no data, no network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from evalkit.config import instantiate
from evalkit.efficiency import efficiency
from evalkit.errors import EvalkitError, RunError
from evalkit.model import ModelSettings
from evalkit.task import Task
from evalkit.trackers.base import About, Outcome
from evalkit.trackers.csv import write_summary

if TYPE_CHECKING:
    from .entries import Entry


def summarize_again(entry: Entry) -> dict[str, Any]:
    """Score the records by the run's own protocol and write summary.json and scores.csv. The summary of `entry` is not
    read. Raises RunError for a run whose process is still at work, ConfigError for a task of an unlisted plugin."""
    try:
        with FileLock(str(entry.path / ".lock"), timeout=0):
            return _summarize(entry)
    except Timeout:
        raise RunError("a process is working on it; it will be shown once it has finished.") from None
    except OSError as error:
        raise RunError(f"its summary cannot be written ({error.strerror}).") from None


def _summarize(entry: Entry) -> dict[str, Any]:
    path, manifest, task = entry.path, entry.manifest, entry.rules()
    records = entry.records()
    limit = entry.limit
    asked = int((manifest.get("data") or {}).get("questions") or len(records))
    expected = task.expected_questions() if limit is None else None
    scores = task.summarize(records, max(asked, expected or 0))
    about = About(path, task, dict(entry.config), records=records, remarks=_remarks(entry, task))
    write_summary(about, Outcome(scores, efficiency(records), records))
    summary: dict[str, Any] = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    return summary


def _remarks(entry: Entry, task: Task) -> list[str]:
    """What the run would have said of itself."""
    remarks: list[str] = []
    try:
        model = instantiate(entry.config["model"], "model", list(entry.plugins))
        assert isinstance(model, ModelSettings)
        remarks += model.remarks()
    except (EvalkitError, KeyError):
        if not entry.manifest.get("imported_from"):  # then there are none
            remarks.append("the model's settings cannot be read here, so its own remarks are missing")
    if origin := entry.manifest.get("rescored_from"):
        remarks.append(f"rescored: replies to the prompts of protocol {origin['protocol']} ({origin['key']})")
    if entry.manifest.get("imported_from"):
        remarks.append("imported: answers of another harness, graded here")
    if task.miniature:
        remarks.append(f"source=mini: a miniature of {task.benchmark}, not the benchmark.")
    if entry.limit is not None:
        remarks.append(f"limit={entry.limit}: only the first questions are asked.")
    return remarks
