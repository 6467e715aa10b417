"""Grade a finished run again, under another protocol or with a judge, without a model.

    python -m evalkit.rescore RUN task.protocol=lmms_eval

RUN is a run folder, `results/<task>/<model>/<key>`. Settings: task.*, source=, source.*, tracker=, tracker.*,
results=<folder>, dry_run=true (say what a judge would be asked, and ask nothing) and plugins=[<package>,...], which a
run of somebody else cannot list by itself. The replies stay what they were; the new grades stand in a run folder of
their own, which says whose replies they are and which protocol's prompts they answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from evalkit.cli.compose import check_names, compose
from evalkit.cli.tools import Arguments, main
from evalkit.config import identity, instantiate, plain
from evalkit.errors import ConfigError, DataError, RunError
from evalkit.evaluate import answers_of, regrade_all
from evalkit.job import OK, limited
from evalkit.replies import GradedRun, by_id, exit_code, load_questions
from evalkit.runs import read_records
from evalkit.scoring.grade import JudgedGrader
from evalkit.task import Task
from evalkit.types import Question, Record


def rescore(arguments: Arguments) -> int:
    dry_run = arguments.flag("dry_run")
    results, listed = arguments.setting("results"), arguments.setting("plugins", "") or ""
    plugins = [name.strip() for name in listed.strip("[]").split(",") if name.strip()]
    if len(arguments.names) != 1:
        raise ConfigError(
            "name one run folder: python -m evalkit.rescore results/<task>/<model>/<key> task.protocol=..."
        )
    path = Path(arguments.names[0]).resolve()
    records = read_records(path)
    if not records:
        raise RunError(f"{path} has no answers yet.")
    config = _config(path, arguments)
    task, source, tracker = (instantiate(config[group], group, plugins) for group in ("task", "source", "tracker"))
    manifest = _manifest(path)
    answered = {record.question for record in records}
    items = limited(load_questions(task, source), manifest.get("limit"), answered)
    questions = by_id(items)
    _check_golds(path, records, questions)
    if dry_run:
        print(_foretold(task, records, questions))
        return OK
    origin = manifest.get("rescored_from") or {"key": path.name, "protocol": records[0].protocol}
    now = {**manifest["identity"], "task": {"name": task.name, **identity(task)}, "rescored_from": origin}
    run = GradedRun(
        task=task,
        model=path.parent.name,
        identity=now,
        config=plain(config),
        manifest={**manifest, "identity": now, "rescored_from": origin},
        remarks=[
            f"rescored: replies to the prompts of protocol {origin['protocol']} ({origin['key']})",
            *_remarks(path),
        ],
        tracker=tracker,
        limited=manifest.get("limit") is not None,
    )
    graded = regrade_all(task, records, questions)
    coverage = run.write(Path(results) if results else path.parents[2], graded, items)
    return exit_code(coverage, float(config.get("min_coverage", 1.0)))


def _foretold(task: Task, records: Sequence[Record], questions: Mapping[str, Question]) -> str:
    """What grading would ask of a judge."""
    answers = answers_of(records, questions)
    told = f"dry run: {len(answers)} replies to grade by {task.benchmark} ({task.split}, protocol {task.protocol})"
    grader = task.rules.grader
    if not isinstance(grader, JudgedGrader):
        return f"{told}; no judge is asked"
    if grader.judge is None:
        return f"{told}; they would wait for a judge: set task.judge.base_url and task.judge.model"
    count = grader.judge.count(chat for question, reply in answers for chat in grader.chats(question, reply))
    judge = grader.judge.settings
    return (
        f"{told}; {count.to_ask} requests to {judge.model} at {judge.base_url} (judge.max_calls={judge.max_calls}), "
        f"{count.cached} judgements are at hand"
    )


def _manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path / 'manifest.json'} cannot be read ({error}): it is no finished run.") from None
    return manifest


def _check_golds(path: Path, records: Sequence[Record], questions: Mapping[str, Question]) -> None:
    """Under other questions of the same ids the grades would be of nothing."""
    for record in records:
        question = questions.get(record.question)
        gold = list(question.gold) if question and isinstance(question.gold, tuple) else question and question.gold
        if question and gold != record.gold:
            raise DataError(
                f'{path}: the right answer to question "{record.question}" was {record.gold!r} when it was asked, and '
                f"is {gold!r} in the data now. Name the data of the run with source.root=<folder>."
            )


def _config(path: Path, arguments: Arguments) -> DictConfig:
    """The run's own configuration with the overrides on top. Only what needs no model can be changed."""
    file = path / "config.yaml"
    if not file.is_file():
        raise RunError(f"{path} has no config.yaml: it is no run folder.")
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    overrides = [override.lstrip("+") for override in arguments.overrides]
    keys = [override.partition("=")[0] for override in overrides]
    for key in keys:
        if key.split(".")[0] not in ("task", "source", "tracker") or key == "task":
            raise ConfigError(f"{key} cannot be changed by rescoring: only task.*, source and tracker can.")
    groups = [override for key, override in zip(keys, overrides, strict=True) if "." not in key]
    check_names(groups, arguments.dirs, "data")
    chosen = compose(["~task", *groups], arguments.dirs, "data")
    for key in keys:
        if "." not in key:
            config[key] = chosen[key]
    values = [override for override in overrides if override not in groups]
    changed = OmegaConf.merge(config, OmegaConf.from_dotlist(values))
    assert isinstance(changed, DictConfig)
    return changed


def _remarks(path: Path) -> list[str]:
    """What the run said of itself, without an earlier rescoring."""
    summary = path / "summary.json"
    if not summary.is_file():
        return []
    remarks: list[str] = json.loads(summary.read_text(encoding="utf-8"))["remarks"]
    return [remark for remark in remarks if not remark.startswith("rescored:")]


if __name__ == "__main__":
    main(rescore, __doc__ or "")
