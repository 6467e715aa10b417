"""Run folders as the pages see them. A summary that is missing or older than its records is made again from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple

from evalkit.errors import EvalkitError, RunError
from evalkit.model import Description, ModelSettings
from evalkit.runs import StoredRun, read_run
from evalkit.scoring.slices import Mean, Slice, slices_of
from evalkit.scoring.summary import Scores
from evalkit.scoring.units import Unit
from evalkit.task import Task
from evalkit.text import first_line
from evalkit.types import FramePlan, Prefill, Record

from .questions import mark, shown


class Answer(NamedTuple):
    """What is kept of a record: a key of MARKS, the extracted value as text, the video, and the byte of records.jsonl
    at which the line begins."""

    mark: str
    extracted: str
    video: str
    place: int


@dataclass(frozen=True)
class Digest:
    """What the board and the pages of other runs need of a run's records, without their texts. `answers`: by question.
    `prefills`: by id, the byte of prefills.jsonl at which the line begins. `headline`: the units of the headline
    metric; None where the run's task cannot be had. `problems`: a message for each damaged line."""

    answers: Mapping[str, Answer]
    prefills: Mapping[str, int]
    headline: Slice | None
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One run. `summary` is summary.json, computed again where it was missing or old. `plugins`: packages beside
    evalkit whose tasks and models may be named by its configuration."""

    stored: StoredRun
    summary: Mapping[str, Any]
    plugins: tuple[str, ...] = ()
    unranked: str = ""
    """Why it cannot be compared with others, where it cannot."""

    @property
    def path(self) -> Path:
        return self.stored.path

    @property
    def config(self) -> Mapping[str, Any]:
        return self.stored.config

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.stored.manifest

    @property
    def name(self) -> str:
        return "/".join(self.path.parts[-3:])

    @property
    def task(self) -> str:
        return str(self.summary["task"])

    @property
    def benchmark(self) -> str:
        return str(self.summary["benchmark"])

    @property
    def split(self) -> str:
        return str(self.summary["split"])

    @property
    def protocol(self) -> str:
        return str(self.summary["protocol"])

    @property
    def remarks(self) -> list[str]:
        remarks = list(self.summary["remarks"])
        if self.manifest.get("history"):
            remarks.append("continued after its code, weights or questions had changed (resume=force)")
        if problems := self.digest.problems:
            lines = f"{len(problems)} damaged line{'s' if len(problems) > 1 else ''}"
            remarks.append(f"{lines} left out: {problems[0]}")
        return [*remarks, self.unranked] if self.unranked else remarks

    @property
    def efficiency(self) -> Mapping[str, Any]:
        return dict(self.summary["efficiency"])

    @cached_property
    def axes(self) -> list[dict[str, Any]]:
        """`{key, label, unit, section, value}` of each setting that sweeps vary; none for runs of evalkit 0.1."""
        return list(self.summary.get("axes") or ())

    @cached_property
    def scores(self) -> Scores:
        return Scores.from_dict(self.summary["scores"])

    @property
    def identity(self) -> Mapping[str, Any]:
        """What the run's key was hashed from."""
        return self.stored.identity

    @property
    def model(self) -> str:
        """The model's name for people; its id in the configuration where it has none."""
        return str((self.identity.get("model") or {}).get("name") or self.summary["model"])

    @property
    def miniature(self) -> bool:
        return self.stored.source == "mini"

    @property
    def limit(self) -> int | None:
        """Only so many questions were asked, on purpose."""
        return self.stored.limit

    @property
    def below_coverage(self) -> bool:
        return self.scores.coverage < float(self.config.get("min_coverage", 1.0))

    @property
    def whole(self) -> bool:
        """Fit to be ranked: nothing was left out on purpose, and enough was answered."""
        return self.limit is None and not self.below_coverage and not self.unranked

    @cached_property
    def digest(self) -> Digest:
        """Reads the records one by one, and keeps of each what is scored."""
        problems: list[str] = []
        answers: dict[str, Answer] = {}
        scored: dict[str, Record] = {}
        names: dict[str, str] = {}
        groups: dict[str, dict[str, list[str]]] = {}
        for record, place in self.stored.scan(problems.append):
            extracted, video = (names.setdefault(name, name) for name in (shown(record.extracted), record.video))
            answers[record.question] = Answer(mark(record), extracted, video, place)
            if not self.unranked:
                _keep_scores(record, groups)
                scored[record.question] = record
        prefills = self.stored.prefill_places(problems.append)
        headline = None
        if scored:
            metric, unit = self.headline_rule()
            headline = slices_of(list(scored.values()), metric, [metric], (), unit)[0]
        self.release()
        return Digest(answers, prefills, headline, tuple(problems))

    def release(self) -> None:
        """Forget the records and prefills, which are read again where they are needed again."""
        for name in ("lines", "prefills"):
            self.stored.__dict__.pop(name, None)

    def records(self) -> list[Record]:
        return self.stored.records

    def prefills(self) -> Mapping[str, Prefill]:
        return self.stored.prefills

    def describe(self, record: Record, prefill: Prefill | None) -> Description:
        """What only the model knows of an answer, as its settings show it; one line for each key where the settings'
        class is not here, or cannot read what was stored."""
        if not record.details or prefill is None:
            return Description()
        known = {name: prefill.plan.get(name, default) for name, default in _NO_PLAN.items()}
        plan = FramePlan(**known)
        try:
            return self._model_class.describe(record.details, plan)
        except Exception:  # code of a plug-in, on what an older version of it may have stored
            return ModelSettings.describe(record.details, plan)

    @cached_property
    def _model_class(self) -> type[ModelSettings]:
        from evalkit.config import locate

        target = str((self.config.get("model") or {}).get("_target_") or "")
        try:
            return locate(target, "model", list(self.plugins))
        except EvalkitError:
            return ModelSettings

    def rules(self) -> Task:
        """The benchmark with the settings of this run. Raises EvalkitError where the configuration names none."""
        return task_of(self.stored, self.plugins)

    def headline_rule(self) -> tuple[Mean, Unit]:
        """The protocol's headline metric, and the questions it scores together."""
        rules = self.rules().rules
        return rules.metrics[0], rules.unit


def _keep_scores(record: Record, groups: dict[str, dict[str, list[str]]]) -> None:
    """Drop the texts and costs of a record; equal groups become one object."""
    record.reply = record.prompt = record.prompt_sha256 = record.error = None
    record.question_sha256 = record.note = record.started = ""
    record.tokens, record.seconds, record.details, record.remarks = {}, {}, {}, []
    record.groups = groups.setdefault(repr(record.groups), record.groups)
    for name in ("run", "task", "split", "protocol", "model", "video", "cluster", "rule", "worker"):
        setattr(record, name, intern(getattr(record, name)))


_NO_PLAN: Mapping[str, Any] = {"indices": (), "times_s": (), "native_fps": 0.0, "frame_count": 0, "rule": ""}


@dataclass(frozen=True)
class Collection:
    """The runs below a results folder, and what could not be read, each with its reason."""

    entries: list[Entry]
    left_out: list[str]


def collect(results: Path, plugins: tuple[str, ...] = ()) -> Collection:
    """Read all run folders, making summaries again where they are missing or stale. Raises RunError where there is no
    run at all; a folder that cannot be read is left out and named."""
    if not results.is_dir():
        raise RunError(
            f"{results} is not a folder. Name the results folder of your runs: python -m evalkit.report results"
        )
    entries, left_out = [], []
    for records in sorted(results.glob("*/*/*/records.jsonl")):
        try:
            if entry := read_entry(records.parent, plugins):
                entries.append(entry)
        except EvalkitError as error:
            left_out.append(f"{records.parent}: {error}")
        except Exception as error:  # a plug-in's code, or files of another shape: one run must not cost the others
            left_out.append(f"{records.parent}: it cannot be read ({type(error).__name__}: {first_line(error)}).")
    if not entries:
        reasons = "".join(f"\n  {reason}" for reason in left_out)
        raise RunError(
            f"{results} holds no finished run (expected <task>/<model>/<key>/records.jsonl with an answer in it). "
            f"Make one with `python -m evalkit task=... model=...`.{reasons}"
        )
    return Collection(entries, left_out)


def read_entry(path: Path, plugins: tuple[str, ...] = ()) -> Entry | None:
    """One run folder; None where nothing has been answered yet. Raises EvalkitError where its files do not fit."""
    stored = read_run(path)
    _check(stored)
    summary = stored.summary
    if stored.is_stale or summary is None or not _is_whole(summary):
        from .recompute import summarize_again

        if not stored.records:
            if stored.problems:
                raise RunError(f"no line of it can be read. {stored.problems[0]}")
            return None
        summary = summarize_again(stored, task_of(stored, plugins))
    entry = _with_rules(Entry(stored, summary, plugins))
    return entry if entry.digest.answers else None


def task_of(stored: StoredRun, plugins: tuple[str, ...]) -> Task:
    """The benchmark with the settings of the run. Raises EvalkitError where the configuration names none."""
    from evalkit.config import instantiate

    if not stored.config.get("task"):
        raise RunError(f"{stored.path} has no config.yaml that names its task. Repeat the run's command.")
    task = instantiate(stored.config["task"], "task", list(plugins))
    if not isinstance(task, Task):
        raise RunError(f"{stored.path}/config.yaml: task._target_ is no task. Repeat the run's command.")
    return task


def _check(stored: StoredRun) -> None:
    """Raises RunError where the manifest or the configuration have another shape than a run's."""
    places = [("manifest.json", "identity", stored.manifest), ("manifest.json", "data", stored.manifest)]
    places += [("manifest.json", key, stored.identity) for key in ("task", "model", "decoding", "video")]
    places += [("config.yaml", key, stored.config) for key in ("task", "model")]
    for file, key, values in places:
        if not isinstance(values.get(key) or {}, Mapping):
            raise RunError(
                f"{stored.path / file}: {key} is {values[key]!r:.60}, not an object. Repeat the run's command."
            )


def _with_rules(entry: Entry) -> Entry:
    """Marked where this version of evalkit cannot read by which rules it was scored."""
    try:
        entry.headline_rule()
        return entry
    except EvalkitError as error:
        return replace(entry, unranked=f"not ranked: {error}")


def _is_whole(summary: Mapping[str, Any]) -> bool:
    """Whether a summary has all that the pages read of it, each of its kind."""
    try:
        scores = Scores.from_dict(summary["scores"])
        numbers: list[float | None] = [scores.n, scores.n_expected, scores.n_failed, scores.n_invalid, scores.coverage]
        for row in (scores.headline, *scores.rows):
            numbers += [value for value in (row.value, row.low, row.high, row.answered) if value is not None]
        numbers += [value for value in summary["efficiency"].values() if value is not None]
        numbers += [axis["value"] for axis in summary.get("axes") or () if axis["value"] is not None]
        texts = [summary[name] for name in ("task", "benchmark", "split", "protocol", "model")]
        texts += [row.metric + row.group + row.label for row in (scores.headline, *scores.rows)]
        texts += [axis[name] for axis in summary.get("axes") or () for name in ("key", "label", "unit", "section")]
        return (
            all(isinstance(text, str) for text in [*texts, *summary["remarks"]])
            and isinstance(summary["remarks"], list)
            and all(number is None or math.isfinite(number) for number in numbers)
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        return False
