"""The command: makes records from the rows of logs, and a run folder from the records."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalkit import provenance
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate, plain
from evalkit.errors import ConfigError, DataError
from evalkit.import_log.logs import LogFile, LogRow, places, read_files, read_log
from evalkit.import_log.matching import Matches, QuestionMatcher
from evalkit.job import identity_of, say
from evalkit.runs import slug
from evalkit.stored_replies import StoredReplies
from evalkit.task import Task
from evalkit.types import Question, Record, VideoQuestions

_MOST_PADDED = 8
"""The most questions that one log may answer twice. Harnesses repeat a few documents (at most one for each rank), so
that all ranks have equally many. A log with more repeated questions holds several runs."""


def import_log(arguments: Arguments) -> int:
    name, unmatched = arguments.setting("name"), arguments.setting("unmatched", "error")
    if not arguments.names:
        raise ConfigError("name a file: python -m evalkit.import_log FILE task=<task> [source=local source.root=...]")
    if unmatched not in ("error", "skip"):
        raise ConfigError(f"unmatched={unmatched}: choose error or skip.")
    _check_source(arguments.overrides)
    files = read_files(map(Path, arguments.names))
    rows = [row for file in files for row in read_log(file)]
    config = arguments.compose()
    task, source, tracker = (
        instantiate(config[group], group, list(config.plugins)) for group in ("task", "source", "tracker")
    )
    data = source.open(task)
    items = task.incomplete().read(data)
    order = [q.id for item in task.load(data.root) for q in item.questions]
    matches = _matches(items, order, rows)
    _report(matches, rows, skip=unmatched == "skip")
    model = slug(name or files[0].name.split(".")[0])
    origin = _origin(files, matches)
    content = {key: origin[key] for key in ("sha256", "replies")}  # file names are not part of the run key
    replies = StoredReplies(
        task=task,
        data=data,
        items=items,
        records=_records(task, items, matches),
        model_id=model,
        identity=identity_of(task, source, {"model": {"id": model}, "imported": content}),
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


def _check_source(overrides: Sequence[str]) -> None:
    keys = {override.partition("=")[0] for override in overrides}
    if "source.root" in keys and "source" not in keys:
        raise ConfigError("source.root is a setting of source=local: add source=local.")


def _matches(items: Sequence[VideoQuestions], order: Sequence[str], rows: Sequence[LogRow]) -> Matches:
    try:
        return QuestionMatcher(items, order).match(rows)
    except RecursionError:
        raise DataError(f"a value in {rows[0].path.name} is nested too deeply to be a log.") from None


def _origin(files: Sequence[LogFile], matches: Matches) -> dict[str, Any]:
    return {
        "files": [file.name for file in files],
        "sha256": sorted(file.sha256 for file in files),
        "replies": len(matches.replies),
    }


def _report(matches: Matches, rows: Sequence[LogRow], skip: bool) -> None:
    """Raise DataError for rows that match no question or contradict it. With `skip`, print a warning instead."""
    problems = []
    if matches.unmatched:
        problems.append(
            f"{len(matches.unmatched)} of {len(rows)} rows belong to no question of this task and split, or to one of "
            f"several that differ ({places(matches.unmatched)}). Rows are matched by question id, else by video and "
            "question text."
        )
    if matches.contradicting:
        first = matches.contradicting[0]
        problems.append(
            f"{len(matches.contradicting)} of {len(rows)} rows contradict the questions they seem to answer "
            f"({places([c.row for c in matches.contradicting])}): {first.row.place} differs in {first.about} from "
            f"question {first.question.id}. It may be the log of another split or version of the benchmark."
        )
    if problems and (not skip or not matches.replies):
        raise DataError(" ".join(problems) + " Check task.split and the data, or leave them out with unmatched=skip.")
    for problem in problems:
        say(f"warning: {problem} They were left out.")
    _report_repeats(matches)
    if damaged := [row for row in matches.replies.values() if row.damaged]:
        say(
            f"warning: {len(damaged)} replies contain unpaired UTF-16 surrogates, which are halves of characters "
            f"({places(damaged)}). They are replaced by U+FFFD."
        )


def _report_repeats(matches: Matches) -> None:
    """Warn of questions with two different replies. Raises DataError if they are too many for one run's log."""
    if others := [row for first, row in matches.repeated if first.path != row.path]:
        raise DataError(
            f"{len(others)} questions are answered differently by several of the files ({places(others)}): they are "
            "the logs of different runs. Import one at a time."
        )
    if len(matches.repeated) > _MOST_PADDED:
        raise DataError(
            f"{len(matches.repeated)} of {len(matches.replies)} questions are answered again, and differently "
            f"({places([row for _, row in matches.repeated])}): the log holds several runs. Import one at a time."
        )
    inside = [row for row in matches.replies.values() if row.others]
    for rows, where in (([row for _, row in matches.repeated], "again"), (inside, "several times in one row")):
        if rows:
            say(f"warning: {len(rows)} answered {where}, and differently ({places(rows)}): the first counts.")


def _records(task: Task, items: list[VideoQuestions], matches: Matches) -> list[Record]:
    """One record for each question. A question without a reply in the log is marked as failed and lowers the
    coverage."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return [_record(task, item, q, matches.replies.get(q.id), now) for item in items for q in item.questions]


def _record(task: Task, item: VideoQuestions, question: Question, row: LogRow | None, now: str) -> Record:
    return Record(
        run="",
        task=task.name,
        split=task.split,
        protocol=task.protocol_label,
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
        prompt=row.prompt if row else None,
        error=None if row else {"kind": "not_in_log", "message": "the imported log has no reply to this question"},
        worker="import",
        started=now,
    )
