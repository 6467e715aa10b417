"""Makes runs from stored replies, for rescoring and for the import of other harnesses' logs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from evalkit.job import BELOW_COVERAGE, OK, say
from evalkit.recorder import regrade
from evalkit.runs import RunFolder, manifest, results, write_atomically, writing
from evalkit.task import DataSet, Task
from evalkit.trackers.base import RunInfo
from evalkit.trackers.settings import TrackerSettings
from evalkit.types import Prefill, Question, Record, VideoQuestions


def by_id(items: Sequence[VideoQuestions]) -> dict[str, Question]:
    return {q.id: q for item in items for q in item.questions}


@dataclass
class StoredReplies:
    """Replies to grade, and the run that is made of them. `origin`: the entries of the manifest about where the replies
    are from."""

    task: Task
    data: DataSet
    items: Sequence[VideoQuestions]
    records: Sequence[Record]
    model_id: str
    identity: dict[str, Any]
    config: dict[str, Any]
    origin: dict[str, Any]
    remarks: Sequence[str]
    tracker: TrackerSettings
    passes: Sequence[Prefill] = ()
    axes: Sequence[dict[str, Any]] = ()
    limit: int | None = None

    def write(self, results_folder: Path, min_coverage: float) -> tuple[Path, int]:
        """Grade the replies and write the run. Returns its folder and the exit code."""
        graded = regrade(self.task, self.records, by_id(self.items))
        with RunFolder(results_folder, self.task.name, self.model_id, self.identity) as folder:
            folder.records = {r.question: replace(r, run=folder.key, model=self.model_id) for r in graded}
            folder.passes = list(self.passes)
            info = self._info(folder)
            with writing(folder.path):
                manifest.save(folder.path, self._manifest(folder, info))
                write_atomically(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.config)))
            trackers = self.tracker.build(results_folder)
            trackers.start(info)
            try:
                result = results.compute(info, folder, trackers)
                for record in result.records:
                    trackers.record(record)
                results.write(info, folder, result, trackers)
            finally:
                trackers.close()
                for failure in trackers.failures:
                    say(f"warning: {failure}")
            problem = results.coverage_problem(folder.path, result, min_coverage)
        for line in problem:
            say(line)
        return folder.path, BELOW_COVERAGE if problem else OK

    def _info(self, folder: RunFolder) -> RunInfo:
        remarks = results.remarks_of(self.task, self.data, self.items, self.limit, self.remarks)
        return RunInfo(
            path=folder.path,
            task=self.task,
            config=self.config,
            items=self.items,
            remarks=list(dict.fromkeys(remarks)),
            axes=self.axes,
            source=self.data.source,
            limit=self.limit,
        )

    def _manifest(self, folder: RunFolder, info: RunInfo) -> dict[str, Any]:
        known = {"key": folder.key, "identity": self.identity, "limit": self.limit}
        return {**self.origin, **known, "remarks": info.remarks, "axes": info.axes}
