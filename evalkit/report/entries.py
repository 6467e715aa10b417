"""Run folders as the pages see them. A summary that is missing or older than its records is made again from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError, RunError
from evalkit.runs import read_records
from evalkit.scoring.slices import Mean
from evalkit.scoring.summary import Scores
from evalkit.scoring.units import Unit
from evalkit.task import Task
from evalkit.types import Record


@dataclass(frozen=True)
class Entry:
    """One run. `summary` is summary.json as it stands, `config` and `manifest` its other files (empty where it has
    none). `plugins`: packages beside evalkit whose tasks may be named by its configuration."""

    path: Path
    summary: Mapping[str, Any]
    config: Mapping[str, Any] = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    plugins: tuple[str, ...] = ()
    unranked: str = ""
    """Why it cannot be compared with others, where it cannot."""

    @property
    def name(self) -> str:
        return "/".join(self.path.parts[-3:])

    @property
    def task(self) -> str:
        return str(self.summary["task"])

    @property
    def benchmark(self) -> str:
        return str(self.summary["benchmark"])

    @property
    def split(self) -> str:
        return str(self.summary["split"])

    @property
    def protocol(self) -> str:
        return str(self.summary["protocol"])

    @property
    def remarks(self) -> list[str]:
        remarks = list(self.summary["remarks"])
        if self.manifest.get("history"):
            remarks.append("continued after its code, weights or questions had changed (resume=force)")
        return [*remarks, self.unranked] if self.unranked else remarks

    @property
    def efficiency(self) -> Mapping[str, Any]:
        return dict(self.summary["efficiency"])

    @cached_property
    def scores(self) -> Scores:
        return Scores.from_dict(self.summary["scores"])

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the run's key was hashed from."""
        return dict(self.manifest.get("identity") or {})

    @property
    def model(self) -> str:
        """The model's name for people; its id in the configuration where it has none."""
        return str((self.identity.get("model") or {}).get("name") or self.summary["model"])

    @property
    def miniature(self) -> bool:
        return self.identity.get("source") == "mini"

    @property
    def limit(self) -> int | None:
        """Only so many questions were asked, on purpose."""
        return self.manifest.get("limit")

    @property
    def below_coverage(self) -> bool:
        return self.scores.coverage < float(self.config.get("min_coverage", 1.0))

    @property
    def whole(self) -> bool:
        """Fit to be ranked: nothing was left out on purpose, and enough was answered."""
        return self.limit is None and not self.below_coverage and not self.unranked

    def records(self) -> list[Record]:
        return read_records(self.path)

    def rules(self) -> Task:
        """The benchmark as this run was told to ask it. Raises EvalkitError where the configuration names none."""
        from evalkit.config import instantiate

        if not self.config.get("task"):
            raise RunError(f"{self.path} has no config.yaml that names its task. Repeat the run's command.")
        task = instantiate(self.config["task"], "task", list(self.plugins))
        assert isinstance(task, Task)
        task.miniature = self.miniature
        return task

    def headline_rule(self) -> tuple[Mean, Unit]:
        """The protocol's headline metric, and the questions it scores together."""
        rules = self.rules().rules
        return rules.metrics[0], rules.unit


@dataclass(frozen=True)
class Collection:
    """The runs below a results folder, and what could not be read, each with its reason."""

    entries: list[Entry]
    left_out: list[str]


def collect(results: Path, plugins: tuple[str, ...] = ()) -> Collection:
    """Read all run folders, making summaries again where they are missing or stale. Raises RunError where there is no
    run at all; a folder that cannot be read is left out and named."""
    if not results.is_dir():
        raise RunError(
            f"{results} is not a folder. Name the results folder of your runs: python -m evalkit.report results"
        )
    entries, left_out = [], []
    for records in sorted(results.glob("*/*/*/records.jsonl")):
        try:
            if entry := read_entry(records.parent, plugins):
                entries.append(entry)
        except EvalkitError as error:
            left_out.append(f"{records.parent}: {error}")
    if not entries:
        reasons = "".join(f"\n  {reason}" for reason in left_out)
        raise RunError(
            f"{results} holds no finished run (expected <task>/<model>/<key>/records.jsonl with an answer in it). "
            f"Make one with `python -m evalkit task=... model=...`.{reasons}"
        )
    return Collection(entries, left_out)


def read_entry(path: Path, plugins: tuple[str, ...] = ()) -> Entry | None:
    """One run folder; None where nothing has been answered yet. Raises EvalkitError where its files do not fit."""
    if not (path / "records.jsonl").is_file():
        raise RunError(f"{path} is no run folder: it has no records.jsonl.")
    config, manifest = _yaml(path / "config.yaml"), _json(path / "manifest.json")
    summary = None if is_stale(path) else _summary(path / "summary.json")
    if summary is None:
        from .recompute import summarize_again

        if not read_records(path):
            return None
        summary = summarize_again(Entry(path, {}, config, manifest, plugins))
    return _with_rules(Entry(path, summary, config, manifest, plugins))


def _with_rules(entry: Entry) -> Entry:
    """Marked where this version of evalkit cannot read by which rules it was scored."""
    try:
        entry.headline_rule()
        return entry
    except EvalkitError as error:
        return replace(entry, unranked=f"not ranked: {error}")


def is_stale(path: Path) -> bool:
    """Whether the summary does not show the records that are there."""
    summary = path / "summary.json"
    return not summary.is_file() or summary.stat().st_mtime_ns < (path / "records.jsonl").stat().st_mtime_ns


def _summary(path: Path) -> dict[str, Any] | None:
    """None for a summary that is no longer whole: it is only a view, and can be made again."""
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        Scores.from_dict(summary["scores"])
        return summary if {"task", "benchmark", "split", "protocol", "remarks", "efficiency"} <= set(summary) else None
    except (ValueError, KeyError, TypeError):
        return None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}). Repeat the run's command, which writes it again.") from None
    return content if isinstance(content, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RunError(f"{path} is damaged ({error}). Repeat the run's command, which writes it again.") from None
    return content if isinstance(content, dict) else {}
