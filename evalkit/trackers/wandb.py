"""Weights & Biases. A run is always logged to files in its folder; `online` uploads them when the run has ended, so
that a server that is slow or gone costs neither an answer nor time while questions are asked.

The id is the run's key: a run that is continued goes on under the same id.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evalkit.errors import RunError
from evalkit.text import first_line
from evalkit.trackers.base import RunInfo, RunResult, Tracker
from evalkit.types import Record

_UPLOAD_S = 30.0
"""How long the end of a run waits for an upload."""
_SERVICE = ("WANDB_SERVICE", "WANDB__SERVICE", "_WANDB_SERVICE")
"""Variables by which a child would use this process's connection, with its settings."""
_TABLE_COLUMNS = ("video", "question", "prompt", "reply", "extracted", "gold", "score", "status", "error")


class Wandb(Tracker):
    """mode: offline (upload later with `wandb sync`) | online (upload at the end)."""

    def __init__(self, mode: str = "offline", project: str = "evalkit", entity: str | None = None) -> None:
        self.mode, self.project, self.entity = mode, project, entity
        self.run: Any = None
        self.finished = False

    def start(self, info: RunInfo) -> None:
        self.info = info
        self.folder = info.path / "wandb"
        self.count, self.score_sum = 0, 0.0
        with _temporary_files_below(self.folder):
            import wandb
        self.run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=info.path.name,
            name="/".join(info.path.parts[-3:]),
            group=info.group,
            job_type=info.task.name,
            config={**info.config, "axes": {axis["key"]: axis["value"] for axis in info.axes}},
            dir=str(info.path),
            mode="offline",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        self.run.define_metric("questions")
        self.run.define_metric("*", step_metric="questions")
        for record in info.records:
            self._count(record)

    def record(self, record: Record) -> None:
        self._count(record)
        progress = {"questions": self.count, "progress/score": 100 * self.score_sum / self.count}
        progress |= {f"seconds/{stage}": seconds for stage, seconds in record.seconds.items()}
        if record.ttft is not None:
            progress["ttft_s"] = record.ttft
        self.run.log(progress)

    def _count(self, record: Record) -> None:
        self.count += 1
        self.score_sum += record.score or 0.0

    def finish(self, result: RunResult) -> None:
        import wandb

        for row in result.scores.rows:
            if row.value is None:
                continue
            name = "/".join(part for part in (row.metric, row.group, row.label) if part)
            self.run.summary[name] = row.value
            if row.low is not None:
                self.run.summary[f"{name}_ci_low"], self.run.summary[f"{name}_ci_high"] = row.low, row.high
        self.run.summary["coverage"] = result.scores.coverage
        for name, value in result.efficiency.items():
            if value is not None:
                self.run.summary[f"efficiency/{name}"] = value
        table = wandb.Table(columns=list(_TABLE_COLUMNS))
        for record in result.records:
            table.add_data(*(_cell(getattr(record, column)) for column in _TABLE_COLUMNS))
        self.run.log({"samples": table})
        self._log_files(self.info.path)
        self.finished = True

    def close(self) -> None:
        if self.run is None:
            return
        self.run.finish()
        self.run = None
        if self.mode == "online" and self.finished:
            _upload(sorted(self.folder.glob("offline-run-*")))

    def _log_files(self, path: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"{self.info.task.name}-{path.name}", type="evaluation")
        for name in ("config.yaml", "manifest.json", "records.jsonl", "scores.csv", "summary.json"):
            if (path / name).exists():
                artifact.add_file(str(path / name))
        self.run.log_artifact(artifact)


_TEMPORARY = "temporary"


@contextmanager
def _temporary_files_below(folder: Path) -> Iterator[None]:
    """wandb makes temporary folders when it is imported and removes them when the process ends. Those of a killed
    process lie in the run's folder, where the next start removes them."""
    if "wandb" in sys.modules:  # its folders are in use
        yield
        return
    place = folder / _TEMPORARY
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    before, tempfile.tempdir = tempfile.tempdir, str(place)
    try:
        yield
    finally:
        tempfile.tempdir = before


def _upload(folders: list[Path]) -> None:
    """Upload what is not uploaded yet. Raises RunError, with the command that does it later, where the server does not
    take it in time."""
    left = [folder for folder in folders if not list(folder.glob("*.synced"))]
    command = ["wandb", "sync", *map(str, left)]
    later = f"`{shlex.join(command)}` uploads it later"
    try:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if name not in _SERVICE},
            text=True,
            timeout=_UPLOAD_S,
        )
    except subprocess.TimeoutExpired:
        raise RunError(f"the wandb server did not take the run within {_UPLOAD_S:.0f} s; {later}") from None
    failed = [line for line in done.stdout.splitlines() if "error" in line.lower()]
    if done.returncode or failed:
        reason = first_line(failed[0] if failed else done.stdout or f"exit code {done.returncode}")
        raise RunError(f"the wandb server did not take the run ({reason}); {later}")


def _cell(value: Any) -> str | float | None:
    return value if value is None or isinstance(value, str | float | int) else str(value)
