"""Runs made of replies that are there already: what rescoring and the import of other harnesses' logs share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from evalkit.efficiency import efficiency
from evalkit.job import BELOW_COVERAGE, OK, say
from evalkit.runs import Run, write_atomically
from evalkit.sources import Source
from evalkit.task import Task
from evalkit.trackers.base import About, Outcome
from evalkit.trackers.settings import TrackerSettings
from evalkit.types import Question, Record, VideoQuestions


def load_questions(task: Task, source: Source) -> list[VideoQuestions]:
    """All videos of the task. Grading needs its questions, not its videos, so those may be missing."""
    source.open(task)
    allowed, task.allow_missing = task.allow_missing, True
    try:
        return list(task.items())
    finally:
        task.allow_missing = allowed


def by_id(items: Sequence[VideoQuestions]) -> dict[str, Question]:
    return {q.id: q for item in items for q in item.questions}


def exit_code(coverage: float, least: float) -> int:
    """0 where all that was expected was answered and graded, as for a run; else says so."""
    if coverage >= least:
        return OK
    say(
        f"below coverage: {100 * coverage:.1f}% of the questions have a reply and a grade, min_coverage is "
        f"{100 * least:.1f}%. min_coverage=<share> accepts less."
    )
    return BELOW_COVERAGE


@dataclass
class GradedRun:
    """A run folder to be, with everything it will say."""

    task: Task
    model: str
    identity: dict[str, Any]
    config: dict[str, Any]
    manifest: dict[str, Any]
    remarks: list[str]
    tracker: TrackerSettings
    limited: bool = False  # to some of the questions on purpose

    def write(self, results: Path, records: Sequence[Record], items: Sequence[VideoQuestions]) -> float:
        """Write records, manifest and scores; print the table. Returns the coverage."""
        order = [q.id for item in items for q in item.questions]
        with Run(results, self.task.name, self.model, self.identity) as run:
            run.records = {r.question: replace(r, run=run.key, model=self.model) for r in records}
            kept = run.settle(order)
            write_atomically(run.path / "manifest.json", json.dumps({**self.manifest, "key": run.key}, indent=1) + "\n")
            write_atomically(run.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.config)))
            for name, content in self.task.submission(kept).items():
                write_atomically(run.path / name, content)
            complete = None if self.limited else self.task.expected_questions()
            scores = self.task.summarize(kept, max(len(order), complete or 0))
            trackers = self.tracker.build(results)
            trackers.start(About(run.path, self.task, self.config, items, remarks=self.remarks))
            for record in kept:
                trackers.record(record)
            measured = [record for record in kept if record.seconds]  # nothing is known of what imported answers cost
            trackers.finish(Outcome(scores, efficiency(measured), kept))
            trackers.close()
            for failure in trackers.failures:
                say(f"warning: {failure}")
        return scores.coverage
