"""CSV views: a run's own scores, and the tables of all runs below a results folder. Rebuilt whole each time, from what
the run folders hold, so that processes that finish at once cannot corrupt them."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from evalkit.runs import write_atomically
from evalkit.runs.results import SUMMARY
from evalkit.trackers.base import RunInfo, RunResult, Tracker

_NAMES = ("task", "benchmark", "split", "protocol", "model", "key")


class Csv(Tracker):
    def __init__(self, results: Path) -> None:
        self.results = results
        self.rebuild = f"`python -m evalkit.report {shlex.quote(str(results))}`"

    def start(self, info: RunInfo) -> None:
        self.info = info
        if plugins := info.config.get("plugins"):
            self.rebuild = f"{self.rebuild[:-1]} --plugins {shlex.join(plugins)}`"

    def finish(self, result: RunResult) -> None:
        write_scores(self.info.path, {**self.info.names, "axes": self.info.axes, "scores": result.scores.to_dict()})
        rebuild_tables(self.results)


def write_scores(path: Path, summary: Mapping[str, Any]) -> None:
    """scores.csv of one run, from its summary."""
    write_atomically(path / "scores.csv", _table(_score_rows(summary)))


def rebuild_tables(results: Path) -> None:
    """`<results>/scores.csv`: one tidy row a run, metric and slice; `<results>/efficiency.csv`: one row a run. Also the
    scores.csv of runs that have none."""
    with FileLock(str(results / ".tables.lock")):
        summaries = []
        for path, summary in read_summaries(results):
            summaries.append(summary)
            if not (path / "scores.csv").exists():
                write_scores(path, summary)
        write_atomically(results / "scores.csv", _table([row for s in summaries for row in _score_rows(s)]))
        write_atomically(results / "efficiency.csv", _table([_efficiency_row(s) for s in summaries]))


def read_summaries(results: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(folder, summary) of all finished runs, in the order of their paths. Damaged summaries are left out; `report`
    computes them again or names them."""
    for path in sorted(results.glob(f"*/*/*/{SUMMARY}")):
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            _score_rows(summary), _efficiency_row(summary)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            continue
        yield path.parent, summary


def _names(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What tells a run from others: its names, and the settings that sweeps vary."""
    axes = {axis["key"]: axis["value"] for axis in summary.get("axes") or ()}
    return {**{name: summary[name] for name in _NAMES}, **axes}


def _score_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**_names(summary), **row} for row in summary["scores"]["rows"]]


def _efficiency_row(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {**_names(summary), **summary["efficiency"]}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front, as spreadsheets do themselves."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
