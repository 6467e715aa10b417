"""A run's summary, computed again from its records: no model, no data, no network."""

from __future__ import annotations

from typing import Any

from filelock import FileLock, Timeout

from evalkit.efficiency import efficiency
from evalkit.errors import RunError
from evalkit.runs import StoredRun, results
from evalkit.task import Task
from evalkit.trackers.base import RunInfo, RunResult
from evalkit.trackers.csv import write_scores


def summarize_again(stored: StoredRun, task: Task) -> dict[str, Any]:
    """Score the records by the run's own protocol and write summary.json and scores.csv. Raises RunError for a run
    whose process is still at work."""
    try:
        with FileLock(str(stored.path / ".lock"), timeout=0):
            return _summarize(stored, task)
    except Timeout:
        raise RunError("a process is working on it; it will be shown once it has finished.") from None
    except OSError as error:
        raise RunError(f"its summary cannot be written ({error.strerror}).") from None


def _summarize(stored: StoredRun, task: Task) -> dict[str, Any]:
    asked = int((stored.manifest.get("data") or {}).get("questions") or len(stored.records))
    scores = results.score(task, stored.records, asked, stored.source, stored.limit)
    info = RunInfo(
        path=stored.path,
        task=task,
        config=dict(stored.config),
        remarks=_remarks(stored),
        axes=stored.manifest.get("axes") or (),
        source=stored.source,
        limit=stored.limit,
    )
    result = RunResult(scores, efficiency(stored.records, stored.passes), stored.records)
    summary = results.write_summary(info, result)
    write_scores(stored.path, summary)
    return summary


def _remarks(stored: StoredRun) -> list[str]:
    """What the run said of itself when it began; runs of evalkit 0.1 kept that only in their summary."""
    known = stored.manifest.get("remarks")
    if known is None:
        known = (stored.summary or {}).get("remarks") or ["the remarks of this run were not kept"]
    return [str(remark) for remark in known]
