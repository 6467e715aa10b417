"""Trackers show a run while it goes on and when it has ended: console, CSV, wandb. A tracker can fail without the run
failing: records, manifest and summary are written by the run itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.errors import RunError
from evalkit.scoring.summary import Scores
from evalkit.task import Task
from evalkit.types import Record, VideoQuestions


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run before its first answer. `axes`: the values of the settings that sweeps vary, see
    `evalkit.runs.results`."""

    path: Path
    task: Task
    config: dict[str, Any]
    items: Sequence[VideoQuestions] = ()  # all of the run
    pending: Sequence[VideoQuestions] = ()  # those with something left to ask
    records: Sequence[Record] = ()  # already there
    remarks: Sequence[str] = ()
    axes: Sequence[dict[str, Any]] = ()
    source: str = ""
    limit: int | None = None
    group: str | None = None  # the sweep this run belongs to

    @property
    def names(self) -> dict[str, str]:
        """What a run is called in every output."""
        task = self.task
        return {
            "task": task.name,
            "benchmark": task.benchmark,
            "split": task.split,
            "protocol": task.protocol_label,
            "model": self.path.parent.name,
            "key": self.path.name,
        }


@dataclass(frozen=True)
class RunResult:
    """What is known of a run after its last answer."""

    scores: Scores
    efficiency: dict[str, Any]
    records: Sequence[Record]


class Tracker:
    """Override what you need. `rebuild` names the command that makes this tracker's output again if it failed: a
    finished run asks nothing again, so by default its own command does."""

    rebuild = "the same command, which asks nothing twice,"

    def start(self, info: RunInfo) -> None: ...
    def record(self, record: Record) -> None: ...
    def finish(self, result: RunResult) -> None: ...
    def close(self) -> None:
        """Called in any case, also after an interruption or a failure of this tracker, perhaps twice."""


@dataclass
class Trackers:
    """All trackers of a run. One that raises is taken out and named at the end, with the command that repeats it."""

    trackers: list[Tracker]
    failures: list[str] = field(default_factory=list)

    def start(self, info: RunInfo) -> None:
        self._each(lambda tracker: tracker.start(info))

    def record(self, record: Record) -> None:
        self._each(lambda tracker: tracker.record(record))

    def finish(self, result: RunResult) -> None:
        self._each(lambda tracker: tracker.finish(result))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def write(self, name: str, write: Callable[[], object]) -> None:
        """Write an output that is no tracker's, such as a submission file. RunError passes: the folder is gone."""
        try:
            write()
        except RunError:
            raise
        except Exception as error:  # it can be written again, and the end of the run says how
            self._note(f"{name} could not be written", error, Tracker.rebuild)

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                call(tracker)
            except Exception as error:  # a tracker's failure must not cost the run; the end of the run reports it
                self.trackers.remove(tracker)
                self._note(f"{type(tracker).__name__} stopped", error, tracker.rebuild)
                with suppress(Exception):  # it has failed already; this only frees its terminal, process or file
                    tracker.close()

    def _note(self, what: str, error: Exception, rebuild: str) -> None:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        self.failures.append(f"{what}: {reason[0]}. The records are complete; {rebuild} makes it again.")
