"""Those who watch a run. A tracker can fail without the run failing: the records are the truth, and every view of them
can be made again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evalkit.scoring.summary import Scores
from evalkit.task import Task
from evalkit.types import Record, VideoQuestions


@dataclass(frozen=True)
class About:
    """What is known of a run before its first answer."""

    path: Path
    task: Task
    config: dict[str, Any]
    items: Sequence[VideoQuestions] = ()  # all of the run
    pending: Sequence[VideoQuestions] = ()  # those with something left to ask
    records: Sequence[Record] = ()  # already there
    remarks: Sequence[str] = ()
    group: str | None = None  # the sweep this run belongs to

    @property
    def names(self) -> dict[str, str]:
        """What a run is called in every view of it."""
        task = self.task
        return {
            "task": task.name,
            "benchmark": task.benchmark,
            "split": task.split,
            "protocol": task.protocol,
            "model": self.path.parent.name,
            "key": self.path.name,
        }


@dataclass(frozen=True)
class Outcome:
    """What is known after its last."""

    scores: Scores
    efficiency: dict[str, Any]
    records: Sequence[Record]
    interrupted: bool = False


class Tracker:
    """Override what you need. `rebuild` names what makes good for this tracker when it failed: a finished run asks
    nothing again, so the same command always does."""

    rebuild = "the same command, which asks nothing twice,"

    def start(self, about: About) -> None: ...
    def record(self, record: Record) -> None: ...
    def finish(self, outcome: Outcome) -> None: ...
    def close(self) -> None:
        """Called in any case, also after an interruption or a failure of this tracker's own, perhaps twice."""


@dataclass
class Trackers:
    """All of them. One that raises is put aside and named at the end, with the command that makes good for it."""

    trackers: list[Tracker]
    failures: list[str] = field(default_factory=list)

    def start(self, about: About) -> None:
        self._each(lambda tracker: tracker.start(about))

    def record(self, record: Record) -> None:
        self._each(lambda tracker: tracker.record(record))

    def finish(self, outcome: Outcome) -> None:
        self._each(lambda tracker: tracker.finish(outcome))

    def close(self) -> None:
        self._each(lambda tracker: tracker.close())

    def write(self, view: str, write: Callable[[], object]) -> None:
        """A view that no tracker writes, such as a submission file."""
        try:
            write()
        except Exception as error:  # as below: a view can be made again, and the end says how
            self._note(f"{view} could not be written", error, Tracker.rebuild)

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for tracker in list(self.trackers):
            try:
                call(tracker)
            except Exception as error:  # whatever a view does must not cost the run; it is reported at the end
                self.trackers.remove(tracker)
                self._note(f"{type(tracker).__name__} stopped", error, tracker.rebuild)
                with suppress(Exception):  # it has failed already; the terminal, a process or a file is let go
                    tracker.close()

    def _note(self, what: str, error: Exception, rebuild: str) -> None:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        self.failures.append(f"{what}: {reason[0]}. The records are complete; {rebuild} makes it again.")
