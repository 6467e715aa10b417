"""Turn another harness's outputs into an evalkit run, graded under any protocol.

    python -m evalkit.import_log FILE task=lvbench name=videoxl2-pure source=local source.root=FOLDER

FILE: a sample log of lmms-eval (JSON, JSONL), a table of VLMEvalKit (xlsx, tsv, csv, json), or JSON lines of id and
reply; also gzipped. The questions come from the task's own data (videos are not needed). Settings: task=, task.*,
source=, source.*, tracker=, results=<folder>, name=<model> (default: the file's name), unmatched=error|skip.
"""

from __future__ import annotations

from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from evalkit import provenance
from evalkit.config import identity, instantiate, plain
from evalkit.errors import ConfigError, DataError
from evalkit.job import say
from evalkit.logs import Joined, Joiner, Logged, read_log
from evalkit.evaluate import regrade
from evalkit.replies import GradedRun, by_id, load_questions
from evalkit.runs import slug
from evalkit.task import Task
from evalkit.tools import Arguments, main
from evalkit.types import Clip, Record


def import_log(arguments: Arguments) -> int:
    name, unmatched = arguments.setting("name"), arguments.setting("unmatched", "error")
    if len(arguments.names) != 1:
        raise ConfigError("name one file: python -m evalkit.import_log FILE task=<task> [source=local source.root=...]")
    if unmatched not in ("error", "skip"):
        raise ConfigError(f"unmatched={unmatched}: choose error or skip.")
    path = Path(arguments.names[0])
    logged = read_log(path)
    config = arguments.compose()
    task, source, tracker = (
        instantiate(config[group], group, list(config.plugins)) for group in ("task", "source", "tracker")
    )
    clips = load_questions(task, source)
    joined = Joiner(clips).join(logged)
    _report(path, joined, len(logged), unmatched)
    model = slug(name or path.name.split(".")[0])
    questions = by_id(clips)
    records = [regrade(task, r, questions) for r in _records(task, clips, joined)]
    origin = {"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest(), "replies": len(joined.replies)}
    ident = {"task": {"name": task.name, **identity(task)}, "model": {"id": model}, "imported": origin}
    run = GradedRun(
        task=task,
        model=model,
        identity=ident,
        config=plain(config),
        manifest=_manifest(ident, task, clips, origin),
        remarks=[f"imported from {path.name}: answers of another harness, graded here"],
        tracker=tracker,
    )
    run.write(Path(str(config.results)), records, clips)
    return 0


def _manifest(ident: dict[str, Any], task: Task, clips: list[Clip], origin: dict[str, Any]) -> dict[str, Any]:
    data = {"root": str(task.root), **provenance.data(clips)}
    return {
        "identity": ident,
        "code": provenance.code(task, task),
        "data": data,
        "imported_from": origin,
        "weights": {},
    }


def _report(path: Path, joined: Joined, total: int, unmatched: str) -> None:
    """Say what did not fit; an unmatched row is an error unless it may be skipped."""
    if joined.unmatched:
        rows = ", ".join(str(row.number) for row in joined.unmatched[:5]) + (", ..." if joined.unmatched[5:] else "")
        message = (
            f"{path}: {len(joined.unmatched)} of {total} rows belong to no question of this task and split "
            f"(rows {rows}). Rows are matched by question id, else by video and question text."
        )
        if unmatched == "error" or not joined.replies:
            raise DataError(f"{message} Check task.split and the data, or leave them out with unmatched=skip.")
        say(f"warning: {message} They were skipped.")
    if joined.conflicts:
        rows = ", ".join(str(row.number) for row in joined.conflicts[:5])
        say(
            f"warning: {path}: {len(joined.conflicts)} rows answer a question again and differently (rows {rows}); "
            "the first reply counts."
        )


def _records(task: Task, clips: list[Clip], joined: Joined) -> list[Record]:
    """A record for each question; one without a reply in the log failed, and lowers the coverage."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return [
        _record(task, clip, question_id, joined.replies.get(question_id), now)
        for clip in clips
        for question_id in (q.id for q in clip.questions)
    ]


def _record(task: Task, clip: Clip, question_id: str, row: Logged | None, now: str) -> Record:
    question = next(q for q in clip.questions if q.id == question_id)
    return Record(
        run="",
        task=task.name,
        split=task.split,
        protocol=task.protocol,
        model="",
        video=clip.video.id,
        question=question.id,
        unit=question.unit,
        cluster=clip.cluster,
        groups={},
        gold=list(question.gold) if isinstance(question.gold, tuple) else question.gold,
        status="ok" if row else "failed",
        reply=row.reply if row else None,
        valid=row is not None,
        error=None if row else {"kind": "not_in_log", "message": "the imported log has no reply to this question"},
        worker="import",
        started=now,
    )


if __name__ == "__main__":
    main(import_log, __doc__ or "")
