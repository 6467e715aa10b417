"""The results of a run: what every run, rescoring and import writes when its records are complete.

Scores, efficiency, coverage, remarks and exit code are computed here and nowhere else, from the same inputs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from evalkit.efficiency import efficiency
from evalkit.model import ModelSettings
from evalkit.task import DataSet, Task
from evalkit.trackers.base import RunInfo, RunResult, Trackers
from evalkit.types import Record, VideoQuestions

from .files import write_atomically
from .folder import RunFolder
from .lines import FORMAT

SUMMARY = "summary.json"


def compute(info: RunInfo, folder: RunFolder, trackers: Trackers) -> RunResult:
    """Scores and efficiency of the records of `folder`, in the task's order."""
    order = [q.id for item in info.items for q in item.questions]
    records = [folder.records[q] for q in order if q in folder.records]
    trackers.write("the order of records.jsonl", lambda: folder.settle(order))
    scores = score(info.task, records, len(order), info.source, info.limit)
    return RunResult(scores, efficiency(records, folder.passes), records)


def score(task: Task, records: Sequence[Record], asked: int, source: str, limit: int | None) -> Any:
    """The scores of the records. Questions that an incomplete copy lacks lower the coverage; those that a limit or a
    miniature leaves out do not."""
    whole = None if limit is not None or source == "mini" else task.expected_questions()
    return task.summarize(records, max(asked, whole or 0))


def write(info: RunInfo, folder: RunFolder, result: RunResult, trackers: Trackers) -> None:
    """summary.json and the benchmark's submission files, then what the trackers write."""
    trackers.write(SUMMARY, lambda: write_summary(info, result))
    if result.records:
        for name, content in info.task.submission(result.records, asked(info.items, result.records)).items():
            trackers.write(name, partial(write_atomically, folder.path / name, content))
    trackers.finish(result)


def asked(items: Sequence[VideoQuestions], records: Sequence[Record]) -> list[VideoQuestions]:
    """The videos with those of their questions that have a record."""
    ids = {record.question for record in records}
    kept = [replace(item, questions=tuple(q for q in item.questions if q.id in ids)) for item in items]
    return [item for item in kept if item.questions]


def write_summary(info: RunInfo, result: RunResult) -> dict[str, Any]:
    """summary.json: what report, compare and the tables need of a run."""
    summary = {
        "format": FORMAT,
        **info.names,
        "source": info.source,
        "limit": info.limit,
        "remarks": list(info.remarks),
        "axes": list(info.axes),
        "scores": result.scores.to_dict(),
        "efficiency": result.efficiency,
    }
    write_atomically(info.path / SUMMARY, json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
    return summary


def axes_of(model: ModelSettings, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """`{key, label, unit, section, value}` of each axis that the model declares; `settings` are its settings by dotted
    key. None as value: the axis has none in this run."""
    found = []
    for axis in model.axes:
        value = settings.get(axis.key)
        if axis.section and not settings.get(f"{axis.section}.enabled", True):
            value = axis.off
        known = isinstance(value, int | float) and not isinstance(value, bool)
        row = {"key": axis.key, "label": axis.label, "unit": axis.unit, "section": axis.section}
        found.append({**row, "value": float(value) if known and value is not None else None})
    return found


def remarks_of(
    task: Task, data: DataSet, items: Sequence[VideoQuestions], limit: int | None, model: Sequence[str]
) -> list[str]:
    """Sentences that are shown with every score of the run. `model`: those of the model, or of where the replies are
    from."""
    remarks = list(model)
    if dirty := task.dirty(items):
        count = f"{len(dirty)} question{'s' if len(dirty) > 1 else ''}"
        remarks.append(f"{count} cannot be answered correctly, because of errors in the data ({dirty[0]}).")
    if data.miniature:
        remarks.append(f"source=mini: a miniature of {task.benchmark}, not the benchmark.")
    if limit is not None:
        remarks.append(f"limit={limit}: only the first questions are asked.")
    return remarks


def coverage_problem(path: Path, result: RunResult, least: float) -> list[str]:
    """Why the coverage is below `least`, in lines for the user; empty where it is not."""
    coverage = result.scores.coverage
    if coverage >= least:
        return []
    causes = Counter((r.video, (r.error or {}).get("message") or r.note) for r in result.records if r.status != "ok")
    shown = 5
    lines = [
        f"  {video}: {message} ({count} question{'s' if count > 1 else ''})"
        for (video, message), count in list(causes.items())[:shown]
    ]
    if len(causes) > shown:
        lines.append(f"  ... and {len(causes) - shown} more")
    lines.append(
        f"below coverage: {100 * coverage:.1f}% of the questions were answered and graded, min_coverage is "
        f"{100 * least:.1f}%. All causes: `error` and `note` in {path}/records.jsonl. The same command tries again "
        "what failed; min_coverage=<share> accepts less."
    )
    return lines
