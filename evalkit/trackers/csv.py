"""CSV views: a run's own scores, and the tables of all runs below a results folder. Rebuilt whole each time, from what
the run folders hold, so that processes that finish at once cannot corrupt them."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from evalkit.runs import write_atomically
from evalkit.trackers.base import About, Outcome, Tracker

_NAMES = ("task", "benchmark", "split", "protocol", "model", "key")


class Csv(Tracker):
    def __init__(self, results: Path) -> None:
        self.results = results
        self.rebuild = f"`python -m evalkit.report {shlex.quote(str(results))}`"

    def start(self, about: About) -> None:
        self.about = about
        if plugins := about.config.get("plugins"):
            self.rebuild = f"{self.rebuild[:-1]} --plugins {shlex.join(plugins)}`"

    def finish(self, outcome: Outcome) -> None:
        write_summary(self.about, outcome)
        rebuild_tables(self.results)


def write_summary(about: About, outcome: Outcome) -> None:
    """scores.csv and summary.json of one run; the summary last, so that where it is there, both are."""
    scores = outcome.scores.to_dict()
    summary = {**about.names, "remarks": list(about.remarks), "scores": scores, "efficiency": outcome.efficiency}
    write_atomically(about.path / "scores.csv", _table(_score_rows(summary)))
    write_atomically(about.path / "summary.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")


def rebuild_tables(results: Path) -> None:
    """`<results>/scores.csv`: one tidy row a run, metric and slice; `<results>/efficiency.csv`: one row a run."""
    with FileLock(str(results / ".tables.lock")):
        summaries = list(read_summaries(results))
        write_atomically(results / "scores.csv", _table([row for s in summaries for row in _score_rows(s)]))
        write_atomically(results / "efficiency.csv", _table([_efficiency_row(s) for s in summaries]))


def read_summaries(results: Path) -> Iterable[dict[str, Any]]:
    """The summaries of all finished runs, in the order of their paths."""
    for path in sorted(results.glob("*/*/*/summary.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def _score_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = {name: summary[name] for name in _NAMES}
    return [{**names, **row} for row in summary["scores"]["rows"]]


def _efficiency_row(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: summary[name] for name in _NAMES}, **summary["efficiency"]}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
