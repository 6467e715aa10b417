"""One run, from its configuration to its scores and exit code."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from evalkit import manifest, provenance
from evalkit.config import DecodingSettings, EvalConfig, identity, instantiate, plain, root_settings
from evalkit.efficiency import efficiency
from evalkit.errors import ConfigError
from evalkit.evaluate import Labels, regrade
from evalkit.executors.base import Executor, Job
from evalkit.model import ModelSettings
from evalkit.runs import Run, slug, write_atomically, writing
from evalkit.sources import Source
from evalkit.task import Task
from evalkit.trackers.base import About, Outcome, Trackers
from evalkit.trackers.settings import TrackerSettings
from evalkit.types import Clip, Decoding, Record

OK, MISTAKE, BELOW_COVERAGE, INTERRUPTED = 0, 1, 3, 130
"""Exit codes: every question was asked and graded; a mistake in the command or the data; finished, but below
min_coverage; interrupted, and resumable."""


@dataclass
class Plan:
    """A configuration turned into objects, before anything heavy is built."""

    config: EvalConfig
    resolved: dict[str, Any]
    task: Task
    model: ModelSettings
    model_id: str
    source: Source
    executor: Executor
    tracker: TrackerSettings
    decoding: Decoding
    group: str | None = None
    forecast: dict[str, Any] | None = None  # what a dry run found

    def identity(self) -> dict[str, Any]:
        """What can change an answer; its hash is the run's key."""
        return {
            "task": {"name": self.task.name, **identity(self.task)},
            "model": {"id": self.model_id, **identity(self.model)},
            "source": self.source.kind,
            "decoding": identity(self.decoding),
            "video": identity(self.config.video),
        }


def plan(config: DictConfig, model_id: str | None = None, group: str | None = None) -> Plan:
    """Check a whole configuration. `model_id` is the name of the model's config, `group` that of the sweep."""
    settings = root_settings(config)
    parts = {name: getattr(settings, name) for name in ("task", "model", "source", "executor", "tracker")}
    for name in ("task", "model"):
        if parts[name] is None:
            raise ConfigError(f"no {name} is named: add {name}=<name>.")
    made = {name: instantiate(node, name, settings.plugins) for name, node in parts.items()}
    return Plan(
        settings,
        plain(config),
        made["task"],
        made["model"],
        slug(model_id or made["model"].name),
        made["source"],
        made["executor"],
        made["tracker"],
        _decoding(made["task"].rules.decoding, settings.decoding),
        group,
    )


def _decoding(protocol: Decoding, overrides: DecodingSettings) -> Decoding:
    return replace(protocol, **{k: v for k, v in vars(overrides).items() if v is not None})


def run(plan: Plan) -> int:
    """Ask what has not been asked, write scores, return the exit code. A dry run is said, and nothing else."""
    if plan.config.dry_run:
        from evalkit.dry_run import forecast
        from evalkit.dry_run_text import show

        plan.forecast = forecast(plan).plain()
        show(plan.forecast)
        return OK
    with _interruptible() as stop:
        plan.source.open(plan.task)
        clips = limited(plan.task.clips(), plan.config.limit)
        results = Path(plan.config.results)
        with Run(results, plan.task.name, plan.model_id, plan.identity()) as folder:
            pending = folder.pending(clips)
            _write_manifest(folder, plan, clips, bool(pending))
            trackers = plan.tracker.build(results)
            trackers.start(_about(plan, folder, clips, pending))
            try:
                _ask(plan, folder, clips, pending, trackers, stop)
                return _finish(plan, folder, clips, trackers, stop.asked)
            finally:
                trackers.close()
                for failure in trackers.failures:
                    say(f"warning: {failure}")


def _ask(
    plan: Plan, folder: Run, clips: Sequence[Clip], pending: Sequence[Clip], trackers: Trackers, stop: _Stop
) -> None:
    """Every answer is on the disk before the next is waited for."""
    _grade_waiting(plan, folder, clips)
    with closing(_answers(plan, folder, pending)) as answers:
        for record in answers:
            folder.append(record)
            trackers.record(record)
            if stop.asked:
                break
            stop.after_question = True
        stop.after_question = False


def limited(clips: Iterable[Clip], limit: int | None) -> list[Clip]:
    """The clips of the first `limit` questions."""
    kept: list[Clip] = []
    left = limit
    for clip in clips:
        if left is None:
            kept.append(clip)
        elif left > 0:
            kept.append(replace(clip, questions=clip.questions[:left]))
            left -= len(kept[-1].questions)
    return kept


def _answers(plan: Plan, folder: Run, pending: Sequence[Clip]) -> Generator[Record, None, None]:
    """Builds no model where there is nothing left to ask."""
    if pending:
        labels = Labels(folder.key, plan.model_id)
        yield from plan.executor.run(Job(plan.task, plan.model, plan.config.video, plan.decoding, labels), pending)


def _grade_waiting(plan: Plan, folder: Run, clips: Sequence[Clip]) -> None:
    """Grade the answers that an earlier run had no judge for."""
    questions = {q.id: q for clip in clips for q in clip.questions}
    for record in list(folder.records.values()):
        if record.status == "ungraded" and record.question in questions:
            graded = regrade(plan.task, record, questions)
            if graded.status == "ok":
                folder.append(graded)


def _finish(plan: Plan, folder: Run, clips: Sequence[Clip], trackers: Trackers, interrupted: bool) -> int:
    order = [q.id for clip in clips for q in clip.questions]
    records = [folder.records[q] for q in order if q in folder.records]
    trackers.write("the order of records.jsonl", lambda: folder.settle(order))
    gathered = {"files": provenance.files(records), "workers": plan.executor.machines}
    trackers.write("files and workers in manifest.json", lambda: manifest.complete(folder.path, **gathered))
    expected = plan.task.expected_questions() if plan.config.limit is None else None
    scores = plan.task.summarize(records, max(len(order), expected or 0))
    outcome = Outcome(scores, efficiency(records), records, interrupted)
    if not interrupted:
        for name, content in plan.task.submission(records).items():
            trackers.write(name, partial(write_atomically, folder.path / name, content))
        trackers.finish(outcome)
    if interrupted:
        answered = len(folder.answered().intersection(order))
        say(f"interrupted: {answered} of {len(order)} questions are answered. The same command continues.")
        return INTERRUPTED
    if scores.coverage < plan.config.min_coverage:
        say(
            f"below coverage: {100 * scores.coverage:.1f}% of the questions were answered and graded, min_coverage "
            f"is {100 * plan.config.min_coverage:.1f}%. Causes: `error` and `note` in {folder.path}/records.jsonl. "
            "The same command tries again what failed."
        )
        return BELOW_COVERAGE
    return OK


def say(text: str) -> None:
    """One message to the user, on stderr."""
    import sys

    print(text, file=sys.stderr, flush=True)


def _about(plan: Plan, folder: Run, clips: Sequence[Clip], pending: Sequence[Clip]) -> About:
    remarks = list(plan.model.remarks())
    if plan.task.miniature:
        remarks.append(f"source=mini: a miniature of {plan.task.benchmark}, not the benchmark.")
    if plan.config.limit is not None:
        remarks.append(f"limit={plan.config.limit}: only the first questions are asked.")
    return About(
        name=folder.name,
        path=folder.path,
        task=plan.task.name,
        benchmark=plan.task.benchmark,
        split=plan.task.split,
        protocol=plan.task.protocol,
        model=plan.model_id,
        config=plan.resolved,
        key=folder.key,
        clips=clips,
        pending=pending,
        records=list(folder.records.values()),
        remarks=remarks,
        group=plan.group,
    )


def _write_manifest(folder: Run, plan: Plan, clips: Sequence[Clip], continuing: bool) -> None:
    now = {
        "key": folder.key,
        "identity": folder.identity,
        "code": provenance.code(plan.task, plan.model),
        "packages": provenance.packages(),
        "weights": plan.model.provenance(),
        "data": {"root": str(plan.task.root), "source": plan.source.kind, **provenance.data(clips)},
        "limit": plan.config.limit,
        "decoder": provenance.decoder(plan.config.video.backend),
        "seed": plan.decoding.seed,
        "config": plan.resolved,
        "hardware": provenance.hardware(),
    }
    force = plan.config.resume == "force"
    exchanged = provenance.exchanged(folder.records.values(), clips) if continuing else []
    with writing(folder.path):
        manifest.write(folder.path, now, bool(folder.records), continuing, force, exchanged)
        write_atomically(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plan.resolved)))


class _Stop:
    asked = False
    after_question = False  # answers are coming: the one at hand is worth waiting for


@contextmanager
def _interruptible() -> Iterator[_Stop]:
    """Ctrl-C, or the SIGTERM of a batch system. Once answers come, the first lets the question at hand finish; before
    that (data is read, a model is built), and at the second, all stops at once."""
    stop = _Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.asked or not stop.after_question:
            raise KeyboardInterrupt
        stop.asked = True
        say("\nstopping after this question (again: stop now)")

    if threading.current_thread() is not threading.main_thread():  # signals are the business of whoever owns that
        yield stop
        return
    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
