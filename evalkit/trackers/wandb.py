"""Weights & Biases: offline unless asked, a stable id so that a resumed run continues, and never a reason to fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from evalkit.trackers.base import RunInfo, RunResult, Tracker
from evalkit.types import Record

_INIT_S, _FINISH_S = 15.0, 300.0
_TABLE_COLUMNS = ("video", "question", "prompt", "reply", "extracted", "gold", "score", "status", "error")


class Wandb(Tracker):
    """mode: offline (sync later with `wandb sync`) | online."""

    def __init__(self, mode: str = "offline", project: str = "evalkit", entity: str | None = None) -> None:
        self.mode, self.project, self.entity = mode, project, entity
        self.run: Any = None

    def start(self, info: RunInfo) -> None:
        import wandb

        self.info = info
        self.count, self.score_sum = 0, 0.0
        try:
            self.run = self._init(info, self.mode)
        except wandb.errors.Error as error:
            if self.mode == "offline":
                raise
            reason = str(error).strip().splitlines()[0]
            place = info.path / "wandb"
            print(f"wandb is not to be had online ({reason}): logging to {place}, see `wandb sync`.", file=sys.stderr)
            self.run = self._init(info, "offline")
        self.run.define_metric("questions")
        self.run.define_metric("*", step_metric="questions")
        for record in info.records:
            self._count(record)

    def _init(self, info: RunInfo, mode: str) -> Any:
        import wandb

        return wandb.init(
            project=self.project,
            entity=self.entity,
            id=info.path.name,
            name="/".join(info.path.parts[-3:]),
            group=info.group,
            job_type=info.task.name,
            config=info.config,
            dir=str(info.path),
            mode=mode,  # type: ignore[arg-type]
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, **_patience()),
        )

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

    def close(self) -> None:
        if self.run is not None:
            self.run.finish()

    def _log_files(self, path: Path) -> None:
        import wandb

        artifact = wandb.Artifact(f"{self.info.task.name}-{path.name}", type="evaluation")
        for name in ("config.yaml", "manifest.json", "records.jsonl", "scores.csv", "summary.json"):
            if (path / name).exists():
                artifact.add_file(str(path / name))
        self.run.log_artifact(artifact)


def _patience() -> dict[str, Any]:
    """A server that went away must hold up neither the begin of a run nor its end. Older releases of wandb have no
    limit for the end."""
    import wandb

    limits: dict[str, Any] = {"init_timeout": float(os.environ.get("WANDB_INIT_TIMEOUT", _INIT_S))}
    if "finish_timeout" in wandb.Settings.model_fields:
        limits |= {"finish_timeout": _FINISH_S, "finish_timeout_raises": True}
    return limits


def _cell(value: Any) -> str | float | None:
    return value if value is None or isinstance(value, str | float | int) else str(value)
