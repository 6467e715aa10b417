"""The tables below a results folder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from evalkit.trackers.csv import rebuild_tables
from tests.helpers import only_run, run_here, toy_arguments
from tests.toy import write_toy


def test_text_that_a_spreadsheet_would_compute_is_neutralised(tmp_path: Path) -> None:
    data = write_toy(tmp_path / "data", videos=2, questions=2)
    assert run_here(toy_arguments(data, tmp_path / "r", "task.allow_missing=true", "min_coverage=0")) == 0
    path = only_run(tmp_path / "r") / "summary.json"
    summary = json.loads(path.read_text())
    labels = ["=1+1", "+cmd", "-2", "@SUM(A1)", "plain"]
    first = {**summary["scores"]["rows"][0], "value": -1.5}
    summary["scores"]["rows"] = [{**first, "group": "kind", "label": label} for label in labels]
    path.write_text(json.dumps(summary))
    rebuild_tables(tmp_path / "r")
    with (tmp_path / "r" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["'=1+1", "'+cmd", "'-2", "'@SUM(A1)", "plain"]
    assert {row["value"] for row in rows} == {"-1.5"}  # a number stays a number
