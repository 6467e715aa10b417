"""Run folders as the pages see them. A summary that is missing or older than its records is made again from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from evalkit.errors import EvalkitError, RunError
from evalkit.model import Description, ModelSettings
from evalkit.runs import StoredRun, read_run
from evalkit.scoring.slices import Mean
from evalkit.scoring.summary import Scores
from evalkit.scoring.units import Unit
from evalkit.task import Task
from evalkit.types import FramePlan, Prefill, Record


@dataclass(frozen=True)
class Entry:
    """One run. `summary` is summary.json, computed again where it was missing or old. `plugins`: packages beside
    evalkit whose tasks and models may be named by its configuration."""

    stored: StoredRun
    summary: Mapping[str, Any]
    plugins: tuple[str, ...] = ()
    unranked: str = ""
    """Why it cannot be compared with others, where it cannot."""

    @property
    def path(self) -> Path:
        return self.stored.path

    @property
    def config(self) -> Mapping[str, Any]:
        return self.stored.config

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.stored.manifest

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
        if problems := self.stored.problems:
            remarks.append(f"{len(problems)} damaged lines were left out: {problems[0]}")
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
        return self.stored.identity

    @property
    def model(self) -> str:
        """The model's name for people; its id in the configuration where it has none."""
        return str((self.identity.get("model") or {}).get("name") or self.summary["model"])

    @property
    def miniature(self) -> bool:
        return self.stored.source == "mini"

    @property
    def limit(self) -> int | None:
        """Only so many questions were asked, on purpose."""
        return self.stored.limit

    @property
    def below_coverage(self) -> bool:
        return self.scores.coverage < float(self.config.get("min_coverage", 1.0))

    @property
    def whole(self) -> bool:
        """Fit to be ranked: nothing was left out on purpose, and enough was answered."""
        return self.limit is None and not self.below_coverage and not self.unranked

    def records(self) -> list[Record]:
        return self.stored.records

    def prefills(self) -> Mapping[str, Prefill]:
        return self.stored.prefills

    def describe(self, record: Record) -> Description:
        """What only the model knows of an answer, as its settings show it; in the plainest form where they cannot be
        had here."""
        prefill = self.stored.prefills.get(record.prefill or "")
        if not record.details or prefill is None:
            return Description()
        known: dict[str, Any] = {
            "indices": (),
            "times_s": (),
            "native_fps": 0.0,
            "frame_count": 0,
            "rule": "",
        } | prefill.plan
        return self._model_class.describe(record.details, FramePlan(**(known | prefill.plan)))

    @cached_property
    def _model_class(self) -> type[ModelSettings]:
        from evalkit.config import locate

        target = str((self.config.get("model") or {}).get("_target_") or "")
        try:
            return locate(target, "model", list(self.plugins))
        except EvalkitError:
            return ModelSettings

    def rules(self) -> Task:
        """The benchmark as this run was told to ask it. Raises EvalkitError where the configuration names none."""
        from evalkit.config import instantiate

        if not self.config.get("task"):
            raise RunError(f"{self.path} has no config.yaml that names its task. Repeat the run's command.")
        task = instantiate(self.config["task"], "task", list(self.plugins))
        assert isinstance(task, Task)
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
    stored = read_run(path)
    if not stored.is_stale and _is_whole(stored.summary):
        assert stored.summary is not None
        return _with_rules(Entry(stored, stored.summary, plugins))
    from .recompute import summarize_again

    if not stored.records:
        return None
    return _with_rules(Entry(stored, summarize_again(Entry(stored, {}, plugins)), plugins))


def _with_rules(entry: Entry) -> Entry:
    """Marked where this version of evalkit cannot read by which rules it was scored."""
    try:
        entry.headline_rule()
        return entry
    except EvalkitError as error:
        return replace(entry, unranked=f"not ranked: {error}")


def _is_whole(summary: Mapping[str, Any] | None) -> bool:
    """Whether a summary has all that the pages read of it."""
    try:
        Scores.from_dict((summary or {})["scores"])
    except (ValueError, KeyError, TypeError):
        return False
    return {"task", "benchmark", "split", "protocol", "model", "remarks", "efficiency"} <= set(summary or ())
