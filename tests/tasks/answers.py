"""Records as a run would leave them, from replies that are made up: so that a task's scores can be checked by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from evalkit.recorder import grade
from evalkit.runs import results
from evalkit.scoring.summary import Scores
from evalkit.task import DataSet, Task
from evalkit.types import FramePlan, Question, Record, VideoQuestions

PLAN = FramePlan((0, 8, 16, 24), (0.0, 1.0, 2.0, 3.0), 8.0, 32, "uniform")


class Opened:
    """A task with its data, as these tests use them. Everything else is the task's own."""

    def __init__(self, task: Task, data: DataSet, allow_missing: bool | None = None) -> None:
        self.task, self.data, self.missing = task, data, allow_missing

    def items(self, allow_missing: bool | None = None) -> list[VideoQuestions]:
        allowed = self.missing if allow_missing is None else allow_missing
        task = self.task if allowed is None else replace(self.task, allow_missing=allowed)
        return task.read(self.data)

    def submission(self, records: Sequence[Record]) -> dict[str, str]:
        return self.task.submission(records, results.asked(self.items(), records))

    def summarize(self, records: Sequence[Record], expected: int | None = None) -> Scores:
        whole = None if self.data.miniature else self.task.expected_questions()
        return self.task.summarize(records, expected or whole)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)


def miniature(task: Task, root: Path) -> Any:
    """The task on its own miniature, written below `root`."""
    task.make_miniature(root)
    return made(task, root)


def made(task: Task, root: Path) -> Any:
    """The task on a miniature that is there."""
    return Opened(task, DataSet(root, "mini"))


def at(task: Task, root: Path) -> Any:
    """The task on a copy that is not expected to be complete."""
    return Opened(task, DataSet(root), allow_missing=True)


def complete(task: Task, root: Path) -> Any:
    """The task on a copy that is expected to be complete."""
    return Opened(task, DataSet(root))


def questions(task: Any) -> dict[str, tuple[VideoQuestions, Question]]:
    return {q.id: (item, q) for item in task.items() for q in item.questions}


def prompts(task: Any, plan: FramePlan = PLAN) -> dict[str, str]:
    return {id: task.prompt(item, q, plan).text for id, (item, q) in questions(task).items()}


def answer(task: Any, reply: Callable[[Question], str | None]) -> list[Record]:
    """Every question answered and graded; None: the question failed."""
    return [record(task, item, q, reply(q)) for item, q in questions(task).values()]


def record(task: Any, item: VideoQuestions, q: Question, reply: str | None) -> Record:
    made = Record(
        run="run",
        task=task.name,
        split=task.split,
        protocol=task.protocol,
        model="made up",
        video=item.video.id,
        question=q.id,
        unit=q.unit,
        cluster=item.cluster,
        groups={name: list(labels) for name, labels in q.groups.items()},
        gold=q.gold,
        status="failed" if reply is None else "ungraded",
        valid=reply is not None,
    )
    if reply is not None:
        made.reply = reply
        return grade(task, made, q)
    return made


def oracle(q: Question) -> str:
    assert isinstance(q.gold, str)
    return q.gold


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def golden_prompts(benchmark: str) -> list[tuple[dict[str, Any], str]]:
    """(row, text) of the golden prompt cases under `$EVALKIT_GOLDEN` (default: the repository's copies)."""
    root = Path(os.environ.get("EVALKIT_GOLDEN") or Path(__file__).parents[1] / "golden" / "cases")
    cases = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(root.rglob("case.json"))]
    examples = [case["examples"][benchmark] for case in cases if benchmark in case.get("examples", {})]
    return [(example["sample"], example["task_text"]) for example in examples]


def read_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def pixels_at(path: Path, *times_s: float) -> list[np.ndarray]:
    """The decoded frames at these times of a constant-rate video; uint8 `[height, width, 3]`."""
    with av.open(str(path)) as container:
        rate = float(container.streams.video[0].average_rate)
        wanted = {int(time_s * rate) for time_s in times_s}
        frames = enumerate(container.decode(video=0))
        found = {i: frame.to_ndarray(format="rgb24") for i, frame in frames if i in wanted}
    return [found[int(time_s * rate)] for time_s in times_s]
