"""The command: rows of a log become records, and records a run folder."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from evalkit import provenance
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate, plain
from evalkit.errors import ConfigError, DataError
from evalkit.import_log.joins import Joined, Joiner
from evalkit.import_log.logs import Logged, read_log
from evalkit.job import identity_of, say
from evalkit.runs import slug
from evalkit.stored_replies import StoredReplies
from evalkit.task import Task
from evalkit.types import Question, Record, VideoQuestions

_MOST_PADDED = 8
"""Harnesses pad a log by a few documents, one a rank at most. Whoever answers more of them twice has run twice."""


def import_log(arguments: Arguments) -> int:
    name, unmatched = arguments.setting("name"), arguments.setting("unmatched", "error")
    if not arguments.names:
        raise ConfigError("name a file: python -m evalkit.import_log FILE task=<task> [source=local source.root=...]")
    if unmatched not in ("error", "skip"):
        raise ConfigError(f"unmatched={unmatched}: choose error or skip.")
    paths = [Path(file) for file in arguments.names]
    logged = [row for path in paths for row in read_log(path)]
    config = arguments.compose()
    task, source, tracker = (
        instantiate(config[group], group, list(config.plugins)) for group in ("task", "source", "tracker")
    )
    data = source.open(task)
    items = task.read(data, allow_missing=True)
    order = [q.id for item in task.load(data.root) for q in item.questions]
    joined = Joiner(items, order).join(logged)
    _report(joined, len(logged), skip=unmatched == "skip")
    model = slug(name or paths[0].name.split(".")[0])
    origin = _origin(paths, joined)
    replies = StoredReplies(
        task=task,
        data=data,
        items=items,
        records=_records(task, items, joined),
        model_id=model,
        identity=identity_of(task, source, {"model": {"id": model}, "imported": origin}),
        config=plain(config),
        origin={
            "code": provenance.code(task),
            "packages": provenance.packages(),
            "data": provenance.data(data, items),
            "imported_from": origin,
            "weights": {},
        },
        remarks=[f"imported from {', '.join(origin['files'])}: answers of another harness, graded here"],
        tracker=tracker,
    )
    return replies.write(Path(str(config.results)), float(config.min_coverage))[1]


def _origin(paths: Sequence[Path], joined: Joined) -> dict[str, Any]:
    digests = [sha256(path.read_bytes()).hexdigest() for path in paths]
    return {"files": [path.name for path in paths], "sha256": digests, "replies": len(joined.replies)}


def _report(joined: Joined, total: int, skip: bool) -> None:
    """Say what did not fit; it is an error unless it may be skipped."""
    problems = []
    if joined.unmatched:
        problems.append(
            f"{len(joined.unmatched)} of {total} rows belong to no question of this task and split, or to one of "
            f"several that differ ({_places(joined.unmatched)}). Rows are matched by question id, else by video and "
            "question text."
        )
    if joined.contradicting:
        first = joined.contradicting[0]
        problems.append(
            f"{len(joined.contradicting)} of {total} rows contradict the questions they seem to answer "
            f"({_places([c.row for c in joined.contradicting])}): {first.row.place} has not {first.about} of question "
            f"{first.question.id}. It may be the log of another split or version of the benchmark."
        )
    if problems and (not skip or not joined.replies):
        raise DataError(" ".join(problems) + " Check task.split and the data, or leave them out with unmatched=skip.")
    for problem in problems:
        say(f"warning: {problem} They were left out.")
    _report_repeats(joined)


def _report_repeats(joined: Joined) -> None:
    """A question may stand in a log twice, as ranks are padded; with two replies that is worth a word."""
    if others := [row for first, row in joined.repeated if first.path != row.path]:
        raise DataError(
            f"{len(others)} questions are answered differently by several of the files ({_places(others)}): they are "
            "the logs of different runs. Import one at a time."
        )
    if len(joined.repeated) > _MOST_PADDED:
        raise DataError(
            f"{len(joined.repeated)} of {len(joined.replies)} questions are answered again, and differently "
            f"({_places([row for _, row in joined.repeated])}): the log holds several runs. Import one at a time."
        )
    inside = [row for row in joined.replies.values() if row.others]
    for rows, where in (([row for _, row in joined.repeated], "again"), (inside, "several times in one row")):
        if rows:
            say(f"warning: {len(rows)} answered {where}, and differently ({_places(rows)}): the first counts.")


def _places(rows: Sequence[Logged]) -> str:
    return "; ".join(row.place for row in rows[:5]) + ("; ..." if len(rows) > 5 else "")


def _records(task: Task, items: list[VideoQuestions], joined: Joined) -> list[Record]:
    """A record for each question; one without a reply in the log failed, and lowers the coverage."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return [_record(task, item, q, joined.replies.get(q.id), now) for item in items for q in item.questions]


def _record(task: Task, item: VideoQuestions, question: Question, row: Logged | None, now: str) -> Record:
    return Record(
        run="",
        task=task.name,
        split=task.split,
        protocol=task.protocol,
        model="",
        video=item.video.id,
        question=question.id,
        unit=question.unit,
        cluster=item.cluster,
        groups={},
        gold=list(question.gold) if isinstance(question.gold, tuple) else question.gold,
        status="ok" if row else "failed",
        reply=row.reply if row else None,
        valid=row is not None,
        error=None if row else {"kind": "not_in_log", "message": "the imported log has no reply to this question"},
        worker="import",
        started=now,
    )
