"""One run, from its configuration to its scores and exit code."""

from __future__ import annotations

import sys
from collections.abc import Container, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from evalkit import provenance
from evalkit.config import DecodingSettings, EvalConfig, identity, instantiate, plain, root_settings
from evalkit.errors import ConfigError, EvalkitError
from evalkit.evaluate import Labels
from evalkit.executors.base import Event, Executor, WorkerSetup, WorkerStarted
from evalkit.flat import flatten
from evalkit.interrupts import Stop, interruptible
from evalkit.model import ModelSettings
from evalkit.recorder import Recorder
from evalkit.runs import RunFolder, manifest, results, slug, write_atomically, writing
from evalkit.sources import Source
from evalkit.task import DataSet, Task
from evalkit.trackers.base import RunInfo, Trackers
from evalkit.trackers.settings import TrackerSettings
from evalkit.types import Decoding, VideoQuestions

OK, MISTAKE, BELOW_COVERAGE, INTERRUPTED = 0, 1, 3, 130
"""Exit codes: every question was asked and graded; a mistake in the command or the data; finished, but below
min_coverage; interrupted, and resumable."""


@dataclass(frozen=True)
class Plan:
    """The objects that a configuration names, before the model is built."""

    config: EvalConfig
    resolved: dict[str, Any]
    task: Task
    model: ModelSettings
    source: Source
    executor: Executor
    tracker: TrackerSettings
    decoding: Decoding
    group: str | None = None

    @property
    def model_id(self) -> str:
        return slug(self.model.model_id())

    @property
    def folder(self) -> Path:
        """The run folder."""
        return RunFolder(Path(self.config.results), self.task.name, self.model_id, self.identity()).path

    def identity(self) -> dict[str, Any]:
        """The settings that can change an answer; the run key is their hash."""
        return identity_of(self.task, self.source, {
            "model": {"id": self.model_id, "class": type(self.model).__name__, **identity(self.model)},
            "decoding": {**identity(self.decoding), **self._generation_defaults()},
            "video": identity(self.config.video),
        })  # fmt: skip

    def _generation_defaults(self) -> dict[str, Any]:
        """Of what neither the protocol nor the user sets."""
        defaults = self.model.generation_defaults(fetch=not self.config.dry_run)
        return {name: value for name, value in defaults.items() if getattr(self.decoding, name) is None}


def identity_of(task: Task, source: Source, rest: dict[str, Any]) -> dict[str, Any]:
    """The identity of a run, a rescoring or an import: the task and its source are the same part of each."""
    return {"task": {"name": task.name, **identity(task)}, "source": source.kind, **rest}


def plan(config: DictConfig, group: str | None = None) -> Plan:
    """Check a whole configuration. `group` is the name of the sweep that it is a cell of. Raises ConfigError."""
    settings = root_settings(config)
    parts = {name: getattr(settings, name) for name in ("task", "model", "source", "executor", "tracker")}
    for name in ("task", "model"):
        if parts[name] is None:
            raise ConfigError(f"no {name} is named: add {name}=<name>.")
    made = {name: instantiate(node, name, settings.plugins) for name, node in parts.items()}
    if settings.baseline is not None:
        made["model"] = instantiate(settings.baseline, "baseline", settings.plugins).settings(made["model"])
    return Plan(
        settings,
        plain(config),
        made["task"],
        made["model"],
        made["source"],
        made["executor"],
        made["tracker"],
        _decoding(made["task"].rules.decoding, settings.decoding),
        group,
    )


def _decoding(protocol: Decoding, overrides: DecodingSettings) -> Decoding:
    return replace(protocol, **{k: v for k, v in vars(overrides).items() if v is not None})


def run(plan: Plan) -> int:
    """Ask what has not been asked, write the results, return the exit code."""
    with interruptible() as stop:
        data = plan.source.open(plan.task)
        everything = plan.task.read(data)
        with RunFolder(Path(plan.config.results), plan.task.name, plan.model_id, plan.identity()) as folder:
            if folder.dropped_cut_line:
                say("note: the last answer was cut short when this run was killed; its question is asked again.")
            items = limited(everything, plan.config.limit, folder.answered())
            limit = None if items == everything else plan.config.limit  # a limit that leaves nothing out is not a limit
            pending = folder.pending(items)
            if pending:
                plan.model.prepare()
            info = _info(plan, folder, data, items, pending, limit)
            _write_manifest(folder, plan, data, info)
            trackers = plan.tracker.build(Path(plan.config.results))
            trackers.start(info)
            try:
                _ask(plan, folder, info, trackers, stop)
                return _finish(plan, folder, info, trackers, stop.asked)
            finally:
                trackers.close()
                for failure in trackers.failures:
                    say(f"warning: {failure}")


def limited(items: Iterable[VideoQuestions], limit: int | None, answered: Container[str] = ()) -> list[VideoQuestions]:
    """The videos of the first `limit` questions, rounded up to whole units, and of the questions in
    `answered`, so that a limit removes no answer."""
    items = list(items)
    first = [q for item in items for q in item.questions][:limit]
    units = {q.unit for q in first} | {q.unit for item in items for q in item.questions if q.id in answered}
    kept = [replace(item, questions=tuple(q for q in item.questions if q.unit in units)) for item in items]
    return [item for item in kept if item.questions]


def _ask(plan: Plan, folder: RunFolder, info: RunInfo, trackers: Trackers, stop: Stop) -> None:
    """Ask the pending questions and write each reply before the next is read; then wait for the judge, if there is
    one."""
    questions = {q.id: q for item in info.items for q in item.questions}
    workers: dict[str, Any] = {}
    with Recorder(plan.task, folder, questions, trackers.record) as recorder:
        recorder.grade_waiting(
            [r for r in folder.records.values() if r.status == "ungraded" and r.question in questions]
        )
        with closing(_events(plan, folder, info.pending)) as events:
            for event in events:
                if isinstance(event, WorkerStarted):
                    workers[event.name] = event.hardware
                    continue
                recorder.add(event)
                if stop.asked:
                    break
                stop.after_question = True
            stop.after_question = False
        files = provenance.files(folder.passes)
        gathered = {"files": files, "workers": workers}
        trackers.write("files and workers in manifest.json", lambda: manifest.complete(folder.path, gathered))
        if not stop.asked:
            recorder.wait()


def _events(plan: Plan, folder: RunFolder, pending: Sequence[VideoQuestions]) -> Generator[Event, None, None]:
    """Run the executor on the pending questions. Without any, no model is built."""
    if pending:
        labels = Labels(folder.key, plan.model_id)
        setup = WorkerSetup(plan.task, plan.model, plan.config.video, plan.decoding, labels, tuple(plan.config.plugins))
        yield from plan.executor.run(setup, pending)


def _finish(plan: Plan, folder: RunFolder, info: RunInfo, trackers: Trackers, interrupted: bool) -> int:
    result = results.compute(info, folder, trackers)
    if interrupted:
        asked = sum(len(item.questions) for item in info.items)
        answered = sum(record.status != "failed" for record in result.records)
        say(f"interrupted: {answered} of {asked} questions are answered. The same command continues.")
        return INTERRUPTED
    results.write(info, folder, result, trackers)
    problem = results.coverage_problem(folder.path, result, plan.config.min_coverage)
    for line in problem:
        say(line)
    return BELOW_COVERAGE if problem else OK


def say(text: str) -> None:
    """One message to the user, on stderr."""
    print(text, file=sys.stderr, flush=True)


def _info(
    plan: Plan,
    folder: RunFolder,
    data: DataSet,
    items: Sequence[VideoQuestions],
    pending: Sequence[VideoQuestions],
    limit: int | None,
) -> RunInfo:
    return RunInfo(
        path=folder.path,
        task=plan.task,
        config=plan.resolved,
        items=items,
        pending=pending,
        records=list(folder.records.values()),
        remarks=results.remarks_of(plan.task, data, items, limit, plan.model.remarks()),
        axes=results.axes_of(plan.model, flatten(identity(plan.model))),
        source=data.source,
        limit=limit,
        group=plan.group,
    )


def _weights(plan: Plan, continuing: bool) -> dict[str, Any] | None:
    """Of the model; None where they cannot be told (an endpoint that is down) and nothing is left to ask."""
    try:
        return plan.model.provenance()
    except EvalkitError:
        if continuing:
            raise
        return None


def _write_manifest(folder: RunFolder, plan: Plan, data: DataSet, info: RunInfo) -> None:
    items, continuing = info.items, bool(info.pending)
    now = {
        "key": folder.key,
        "identity": folder.identity,
        "code": provenance.code(plan.task, *plan.model.parts()),
        "packages": provenance.packages(),
        "weights": _weights(plan, continuing),
        "data": provenance.data(data, items),
        "limit": info.limit,
        "remarks": info.remarks,
        "axes": info.axes,
        "decoder": provenance.decoder(plan.config.video.backend),
        "seed": plan.decoding.seed,
        "config": plan.resolved,
        "hardware": provenance.hardware(),
    }
    replaced = {
        "questions": folder.changed(items),
        "videos": provenance.replaced_videos(folder.records.values(), folder.prefills, items),
    }
    with writing(folder.path):
        if not folder.records:
            (folder.path / "manifest.json").unlink(missing_ok=True)  # of a run that ended before its first answer
        changed = manifest.write(folder.path, now, continuing, plan.config.resume == "force", replaced)
        if continuing:
            write_atomically(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plan.resolved)))
    if changed and not continuing:
        say(f"note: this run was made with other {' and '.join(changed)} than are here now; its answers are kept.")
