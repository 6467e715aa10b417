"""Grade a finished run again, under another protocol or with a judge, without a model.

    python -m evalkit.rescore RUN task.protocol=lmms_eval

RUN is a run folder, `results/<task>/<model>/<key>`. Settings: task.*, source=, source.*, tracker=, tracker.*,
results=<folder>, dry_run=true (print how many requests a judge would get, and stop) and plugins=[<package>,...], which
is not read from the run folder, because that may be somebody else's. The replies stay as they are. The new grades are
written to a run folder of their own, which names the run and the protocol that the replies come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from evalkit import provenance
from evalkit.cli.compose import check_names, compose
from evalkit.cli.tools import Arguments, main
from evalkit.config import instantiate, plain
from evalkit.errors import ConfigError, DataError, RunError
from evalkit.job import OK, identity_of, limited
from evalkit.plugins import names as plugin_names
from evalkit.runs import StoredRun, read_records, read_run
from evalkit.scoring.grade import JudgedGrader, same_option
from evalkit.stored_replies import StoredReplies, by_id
from evalkit.task import Task
from evalkit.types import Question, Record


def rescore(arguments: Arguments) -> int:
    dry_run = arguments.flag("dry_run")
    replies, results = stored_replies(arguments)
    if dry_run:
        print(_forecast(replies.task, replies.records, by_id(replies.items)))
        return OK
    return replies.write(results, float(replies.config.get("min_coverage", 1.0)))[1]


def stored_replies(arguments: Arguments) -> tuple[StoredReplies, Path]:
    """The replies to grade, and the results folder for the grades. Raises EvalkitError."""
    results, listed = arguments.setting("results"), arguments.setting("plugins", "") or ""
    plugins = plugin_names(listed)
    if len(arguments.names) != 1:
        raise ConfigError(
            "name one run folder: python -m evalkit.rescore results/<task>/<model>/<key> task.protocol=..."
        )
    path = Path(arguments.names[0]).resolve()
    records = read_records(path)
    if not records:
        raise RunError(f"{path} has no answers yet.")
    stored = read_run(path)
    if not stored.manifest:
        raise RunError(f"{path} has no manifest.json: it is no finished run.")
    config = _config(path, arguments)
    task, source, tracker = (instantiate(config[group], group, plugins) for group in ("task", "source", "tracker"))
    data = source.open(task)
    answered = {record.question for record in records}
    items = limited(task.incomplete().read(data), stored.limit, answered)
    _check_golds(path, records, by_id(items))
    origin = stored.manifest.get("rescored_from") or {"key": path.name, "protocol": records[0].protocol}
    replies = StoredReplies(
        task=task,
        data=data,
        items=items,
        records=records,
        passes=stored.passes,
        model_id=path.parent.name,
        identity={**stored.identity, **identity_of(task, source, {"rescored_from": origin})},
        config=plain(config),
        origin={**stored.manifest, "graded_by": provenance.code(task), "rescored_from": origin},
        remarks=[
            f"rescored: replies to the prompts of protocol {origin['protocol']} ({origin['key']})",
            *_remarks(stored),
        ],
        axes=stored.manifest.get("axes") or (),
        tracker=tracker,
        limit=stored.limit,
    )
    return replies, Path(results) if results else path.parents[2]


def _forecast(task: Task, records: Sequence[Record], questions: Mapping[str, Question]) -> str:
    """How many requests grading would send to a judge, as a sentence."""
    answers = [
        (questions[record.question], task.rules.clean(record.reply).text)
        for record in records
        if record.question in questions and record.status != "failed" and record.reply is not None
    ]
    text = (
        f"dry run: {len(answers)} replies to grade by {task.benchmark} ({task.split}, protocol {task.protocol_label})"
    )
    grader = task.rules.grader
    if not isinstance(grader, JudgedGrader):
        return f"{text}; no judge is asked"
    if grader.judge is None:
        return f"{text}; they would stay ungraded: set task.judge.base_url and task.judge.model"
    count = grader.judge.count(chat for question, reply in answers for chat in grader.chats(question, reply))
    judge = grader.judge.settings
    return (
        f"{text}; {count.to_ask} requests to {judge.model} at {judge.base_url} (judge.max_calls={judge.max_calls}), "
        f"{count.cached} judgements are cached"
    )


def _check_golds(path: Path, records: Sequence[Record], questions: Mapping[str, Question]) -> None:
    """Raise DataError if the data has other questions under the same ids: their grades would be wrong."""
    for record in records:
        question = questions.get(record.question)
        gold = list(question.gold) if question and isinstance(question.gold, tuple) else question and question.gold
        if question and gold != record.gold and not same_option(question, record.gold):
            raise DataError(
                f'{path}: the right answer to question "{record.question}" was {record.gold!r} when it was asked, and '
                f"is {gold!r} in the data now. Name the data of the run with source.root=<folder>."
            )


def _config(path: Path, arguments: Arguments) -> DictConfig:
    """The run's configuration with the overrides. Only settings that need no model can be changed."""
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


def _remarks(stored: StoredRun) -> list[str]:
    """The remarks of the run, without those of an earlier rescoring."""
    known = stored.manifest.get("remarks") or (stored.summary or {}).get("remarks") or []
    return [str(remark) for remark in known if not str(remark).startswith("rescored:")]


if __name__ == "__main__":
    main(rescore, __doc__ or "")
