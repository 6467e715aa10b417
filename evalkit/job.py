"""One run, from its configuration to its scores and exit code."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
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
from evalkit.evaluate import Labels, regrade_all
from evalkit.executors.base import Executor, Job
from evalkit.model import ModelSettings
from evalkit.runs import Run, slug, write_atomically, writing
from evalkit.sources import Source
from evalkit.task import Task
from evalkit.trackers.base import About, Outcome, Trackers
from evalkit.trackers.settings import TrackerSettings
from evalkit.types import Decoding, Record, VideoQuestions

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
            "task": {"name": self.task.name, "class": _class(self.task), **identity(self.task)},
            "model": {"id": self.model_id, "class": _class(self.model), **identity(self.model)},
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


def _class(settings: object) -> str:
    return f"{type(settings).__module__}.{type(settings).__qualname__}"


def _decoding(protocol: Decoding, overrides: DecodingSettings) -> Decoding:
    return replace(protocol, **{k: v for k, v in vars(overrides).items() if v is not None})


def run(plan: Plan) -> int:
    """Ask what has not been asked, write scores, return the exit code. A dry run is said, and nothing else."""
    if plan.config.dry_run:
        from evalkit.dry_run.forecast import forecast
        from evalkit.dry_run.text import show

        plan.forecast = forecast(plan).plain()
        show(plan.forecast)
        return OK
    with _interruptible() as stop:
        plan.source.open(plan.task)
        results = Path(plan.config.results)
        everything = list(plan.task.items())
        with Run(results, plan.task.name, plan.model_id, plan.identity()) as folder:
            if folder.dropped_torn_line:
                say("note: the last answer was torn when this run was killed; its question is asked again.")
            items = limited(everything, plan.config.limit, folder.answered())
            if items == everything:
                plan.config.limit = None  # it leaves nothing out
            pending = folder.pending(items)
            _write_manifest(folder, plan, items, bool(pending))
            trackers = plan.tracker.build(results)
            trackers.start(_about(plan, folder, items, pending))
            try:
                _ask(plan, folder, items, pending, trackers, stop)
                return _finish(plan, folder, items, trackers, stop.asked)
            finally:
                trackers.close()
                for failure in trackers.failures:
                    say(f"warning: {failure}")


def _ask(
    plan: Plan,
    folder: Run,
    items: Sequence[VideoQuestions],
    pending: Sequence[VideoQuestions],
    trackers: Trackers,
    stop: _Stop,
) -> None:
    """Every answer is on the disk before the next is waited for."""
    _grade_waiting(plan, folder, items)
    with closing(_answers(plan, folder, pending)) as answers:
        for record in answers:
            folder.append(record)
            trackers.record(record)
            if stop.asked:
                break
            stop.after_question = True
        stop.after_question = False


def limited(items: Iterable[VideoQuestions], limit: int | None, answered: Container[str] = ()) -> list[VideoQuestions]:
    """The videos of the first `limit` questions, rounded up to whole units, and of those answered already: a limit
    never takes anything away."""
    items = list(items)
    first = [q for item in items for q in item.questions][:limit]
    units = {q.unit for q in first} | {q.unit for item in items for q in item.questions if q.id in answered}
    kept = [replace(item, questions=tuple(q for q in item.questions if q.unit in units)) for item in items]
    return [item for item in kept if item.questions]


def _answers(plan: Plan, folder: Run, pending: Sequence[VideoQuestions]) -> Generator[Record, None, None]:
    """Builds no model where there is nothing left to ask."""
    if pending:
        labels = Labels(folder.key, plan.model_id)
        yield from plan.executor.run(Job(plan.task, plan.model, plan.config.video, plan.decoding, labels), pending)


def _grade_waiting(plan: Plan, folder: Run, items: Sequence[VideoQuestions]) -> None:
    """Grade the answers that an earlier run had no judge for."""
    questions = {q.id: q for item in items for q in item.questions}
    waiting = [r for r in folder.records.values() if r.status == "ungraded" and r.question in questions]
    for graded in regrade_all(plan.task, waiting, questions):
        if graded.status == "ok":
            folder.append(graded)


def _finish(plan: Plan, folder: Run, items: Sequence[VideoQuestions], trackers: Trackers, interrupted: bool) -> int:
    order = [q.id for item in items for q in item.questions]
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
        _say_causes(records)
        say(
            f"below coverage: {100 * scores.coverage:.1f}% of the questions were answered and graded, min_coverage "
            f"is {100 * plan.config.min_coverage:.1f}%. All causes: `error` and `note` in {folder.path}/records.jsonl. "
            "The same command tries again what failed; min_coverage=<share> accepts less."
        )
        return BELOW_COVERAGE
    return OK


def _say_causes(records: Sequence[Record], shown: int = 5) -> None:
    """What failed, the first few by video and cause."""
    causes = Counter((r.video, (r.error or {}).get("message") or r.note) for r in records if r.status != "ok")
    for (video, message), count in list(causes.items())[:shown]:
        say(f"  {video}: {message} ({count} question{'s' if count > 1 else ''})")
    if len(causes) > shown:
        say(f"  ... and {len(causes) - shown} more")


def say(text: str) -> None:
    """One message to the user, on stderr."""
    import sys

    print(text, file=sys.stderr, flush=True)


def _about(plan: Plan, folder: Run, items: Sequence[VideoQuestions], pending: Sequence[VideoQuestions]) -> About:
    remarks = list(plan.model.remarks())
    if dirty := plan.task.dirty(items):
        count = f"{len(dirty)} question{'s' if len(dirty) > 1 else ''}"
        remarks.append(f"{count} can have no right answer, as the data stands ({dirty[0]}).")
    if plan.task.miniature:
        remarks.append(f"source=mini: a miniature of {plan.task.benchmark}, not the benchmark.")
    if plan.config.limit is not None:
        remarks.append(f"limit={plan.config.limit}: only the first questions are asked.")
    records = list(folder.records.values())
    return About(folder.path, plan.task, plan.resolved, items, pending, records, remarks, plan.group)


def _write_manifest(folder: Run, plan: Plan, items: Sequence[VideoQuestions], continuing: bool) -> None:
    now = {
        "key": folder.key,
        "identity": folder.identity,
        "code": provenance.code(plan.task, plan.model),
        "packages": provenance.packages(),
        "weights": plan.model.provenance(),
        "data": {
            "root": str(plan.task.root),
            "source": plan.source.kind,
            "revisions": provenance.revisions(plan.task.root),
            **provenance.data(items),
        },
        "limit": plan.config.limit,
        "decoder": provenance.decoder(plan.config.video.backend),
        "seed": plan.decoding.seed,
        "config": plan.resolved,
        "hardware": provenance.hardware(),
    }
    exchanged = {"questions": folder.exchanged(items)}
    if continuing:
        exchanged["videos"] = provenance.exchanged(folder.records.values(), items)
    with writing(folder.path):
        if not folder.records:
            (folder.path / "manifest.json").unlink(missing_ok=True)  # of a run that ended before its first answer
        changed = manifest.write(folder.path, now, continuing, plan.config.resume == "force", exchanged)
        write_atomically(folder.path / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(plan.resolved)))
    if changed and not continuing:
        say(f"note: this run was made with other {' and '.join(changed)} than are here now; its answers stand.")


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
