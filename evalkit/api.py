"""The Python API of evalkit, for notebooks and scripts.

    from evalkit.api import compare, evaluate, load_runs, rescore

    runs = load_runs("results")
    runs.scores.query("metric == 'accuracy'").plot(x="bilevel_decode.compression", y="value")
    compare(*runs.paths[:2]).verdict
    rescore(runs.paths[0], **{"task.protocol": "lmms_eval"})
    evaluate("mlvu", MyModel(frames=64), source="mini", limit=20)

Errors are those of the command line: `evalkit.errors.EvalkitError`, whose message says what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit import CONFIGS
from evalkit.config import EvalConfig, instantiate
from evalkit.errors import ConfigError, RunError
from evalkit.executors.base import Executor
from evalkit.executors.local import Local
from evalkit.flat import flatten, varying
from evalkit.job import INTERRUPTED, Plan, run
from evalkit.model import NEUTRAL, ModelSettings, VideoModel
from evalkit.runs import StoredRun, read_run
from evalkit.sources import Source
from evalkit.task import Task
from evalkit.trackers.settings import TrackerSettings
from evalkit.types import FrameRequest
from evalkit.video.settings import VideoSettings

if TYPE_CHECKING:
    import pandas as pd

    from evalkit.compare.comparison import RunComparison

_NAMES = ("task", "benchmark", "split", "protocol", "model", "key")


@dataclass(frozen=True)
class Runs:
    """Run folders as tables. Each table has the names of a run (task, benchmark, split, protocol, model, key) and a
    column for every setting that is not the same in all of them; the keys of the model's settings are without `model.`.
    """

    stored: Sequence[StoredRun]

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def paths(self) -> list[Path]:
        return [run.path for run in self.stored]

    @cached_property
    def settings(self) -> pd.DataFrame:
        """One row a run: its names, what varies, its source and limit."""
        return self._frame([{"source": run.source, "limit": run.limit}] for run in self.stored)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row for each metric, and each label of a slice: value, 95% interval (`low`, `high`), n, coverage.
        `headline` marks the protocol's first metric over all questions."""
        return self._frame(_score_rows(run) for run in self.stored)

    @cached_property
    def efficiency(self) -> pd.DataFrame:
        """One row a run: seconds of each stage, tokens, FLOPs, bytes. What was not measured is NaN."""
        return self._frame([_summary(run)["efficiency"]] for run in self.stored)

    @cached_property
    def records(self) -> pd.DataFrame:
        """One row for each answer. Groups and further values of a grade have columns of their own: `group.<name>`
        (labels joined by a comma), `value.<name>`."""
        return self._frame(([_record_row(asdict(r)) for r in run.records] for run in self.stored), names=("key",))

    @cached_property
    def prefills(self) -> pd.DataFrame:
        """One row for each prefill: its cost and its frames."""
        return self._frame(([_flat(asdict(p)) for p in run.passes] for run in self.stored), names=("key", "model"))

    @cached_property
    def _varying(self) -> list[dict[str, Any]]:
        flat = [
            {key.removeprefix("model."): value for key, value in flatten(run.identity).items()} for run in self.stored
        ]
        known = ("id", "class", "name", "task.name", "task.split", "task.protocol", "source")
        keys = [key for key in varying(flat) if key not in known]
        return [{key: settings.get(key) for key in keys} for settings in flat]

    def _frame(self, rows_of_runs: Iterable[Iterable[Mapping[str, Any]]], names: Sequence[str] = _NAMES) -> Any:
        import pandas as pd

        rows = []
        for stored, settings, run_rows in zip(self.stored, self._varying, rows_of_runs, strict=True):
            run_names = {name: value for name, value in _run_names(stored).items() if name in names}
            rows += [{**run_names, **settings, **row} for row in run_rows]
        return pd.DataFrame.from_records(rows)


def load_runs(*paths: str | Path) -> Runs:
    """Runs below result folders, or run folders themselves (default: `results`). Raises RunError where there is none,
    and for a run that has not finished."""
    found: list[Path] = []
    for path in map(Path, paths or ("results",)):
        below = [path] if (path / "records.jsonl").is_file() else [f.parent for f in path.glob("*/*/*/records.jsonl")]
        if not below:
            raise RunError(f"{path} holds no run (expected <task>/<model>/<key>/records.jsonl).")
        found += sorted(below)
    return Runs([read_run(path) for path in found])


def compare(*runs: str | Path, plugins: Sequence[str] = ()) -> RunComparison:
    """A verdict on two or more run folders: `.verdict` in words, `.pairs` in numbers. `plugins`: packages other
    than evalkit that the runs' configurations name. Raises RunError for runs that cannot be compared."""
    from evalkit.compare.comparison import compare_runs

    return compare_runs([Path(run) for run in runs], tuple(plugins))


def rescore(
    run: str | Path, results: str | Path | None = None, plugins: Sequence[str] = (), **settings: Any
) -> StoredRun:
    """Grade a run's replies again, with other settings of its task (`**{"task.protocol": "lmms_eval"}`), and return
    the new run. `results`: the folder for it; default: that of the run. `plugins` as in `compare`."""
    from evalkit.cli.tools import Arguments
    from evalkit.rescore import stored_replies

    overrides = [f"{key}={'null' if value is None else value}" for key, value in settings.items()]
    overrides += [f"plugins=[{','.join(plugins)}]"] if plugins else []
    replies, folder = stored_replies(Arguments([str(run)], overrides, [CONFIGS]))
    path, _ = replies.write(Path(results) if results else folder, 0.0)
    return read_run(path)


@dataclass
class GivenModel(ModelSettings):
    """A model that was built in Python. `settings` are the values that can change an answer: they are part of the
    run key and are shown in tables."""

    name: str = "model"
    settings: dict[str, Any] = field(default_factory=dict)
    frames: FrameRequest = field(default_factory=lambda: FrameRequest("uniform", 64))
    model: VideoModel | None = field(default=None, repr=False, metadata=NEUTRAL)

    def frames_wanted(self) -> FrameRequest:
        return self.frames

    def build(self) -> VideoModel:
        if self.model is None:
            raise ConfigError(f"{self.name} was built in Python: it cannot be built again from a configuration.")
        return self.model


def evaluate(
    task: Task | str,
    model: ModelSettings | VideoModel,
    *,
    source: Source | str = "hub",
    frames: FrameRequest | None = None,
    name: str = "",
    settings: Mapping[str, Any] | None = None,
    results: str | Path = "results",
    executor: Executor | None = None,
    tracker: TrackerSettings | None = None,
    video: VideoSettings | None = None,
    **options: Any,
) -> StoredRun:
    """Evaluate a model on a benchmark and return the run; the same call continues an interrupted one.

    `task`: an object or a name (`"mlvu"`). `model`: settings, or a loaded model with the `frames` that it wants, its
    `name` and the `settings` that tell it from others. `options`: those of the command line, such as `limit=20`,
    `min_coverage=0.9`, `resume="force"`. wandb is off unless `tracker` turns it on. Raises EvalkitError. Coverage
    below `min_coverage` prints a message, and is in the run's summary.
    """
    if isinstance(model, VideoModel):
        if frames is None or not name:
            raise ConfigError("evaluate(): a loaded model needs frames=FrameRequest(...) and name=....")
        model = GivenModel(name=name, settings=dict(settings or {}), frames=frames, model=model)
    elif frames is not None or name or settings:
        raise ConfigError("evaluate(): frames, name and settings belong to a loaded model; these settings have theirs.")
    task = _named(task, "task") if isinstance(task, str) else task
    source = _named(source, "source") if isinstance(source, str) else source
    unknown = set(options) - {f.name for f in fields(EvalConfig)}
    if unknown:
        raise ConfigError(f"evaluate(): there is no option {', '.join(sorted(unknown))}.")
    config = EvalConfig(video=video or VideoSettings(), results=str(results), **options)
    executor, tracker = executor or Local(), tracker or TrackerSettings(wandb="disabled")
    plan = Plan(
        config=config,
        resolved=_resolved(config, task=task, model=model, source=source, executor=executor, tracker=tracker),
        task=task,
        model=model,
        source=source,
        executor=executor,
        tracker=tracker,
        decoding=replace(task.rules.decoding, **{k: v for k, v in vars(config.decoding).items() if v is not None}),
    )
    if run(plan) == INTERRUPTED:
        raise KeyboardInterrupt
    return read_run(plan.folder)


def _named(name: str, group: str) -> Any:
    """The object of a config, as the command line makes it."""
    from evalkit.cli.compose import compose as compose_config

    named = [f"{group}={name}"] if group == "task" else ["task=mlvu", f"{group}={name}"]
    return instantiate(compose_config(named, [CONFIGS], "data")[group], group)


def _resolved(config: EvalConfig, **parts: Any) -> dict[str, Any]:
    """The configuration as config.yaml keeps it."""
    made = {
        group: {"_target_": f"{type(part).__module__}.{type(part).__qualname__}", **_values(part)}
        for group, part in parts.items()
    }
    rest = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in made}
    return {**made, **{k: asdict(v) if hasattr(v, "__dataclass_fields__") else v for k, v in rest.items()}}


def _values(part: Any) -> dict[str, Any]:
    """The fields that a YAML could hold."""
    shown = {f.name: getattr(part, f.name) for f in fields(part) if f.init and not isinstance(part, VideoModel)}
    plain = {k: asdict(v) if hasattr(v, "__dataclass_fields__") else v for k, v in shown.items()}
    return {k: v for k, v in plain.items() if isinstance(v, str | int | float | bool | dict | list | None)}


def _summary(run: StoredRun) -> Mapping[str, Any]:
    if run.summary is None:
        raise RunError(f"{run.path} has no results yet: repeat its command, or `python -m evalkit.report`.")
    return run.summary


def _run_names(run: StoredRun) -> dict[str, Any]:
    known = run.summary or {}
    return {name: known.get(name) for name in _NAMES} | {"key": run.key, "model": run.path.parent.name}


def _score_rows(run: StoredRun) -> list[dict[str, Any]]:
    scores = _summary(run)["scores"]
    first = {name: scores["headline"][name] for name in ("metric", "group", "label")}
    return [
        {"headline": {name: row[name] for name in first} == first, **row, "coverage": scores["coverage"]}
        for row in scores["rows"]
    ]


def _record_row(values: dict[str, Any]) -> dict[str, Any]:
    groups = {f"group.{name}": ", ".join(labels) for name, labels in values.pop("groups").items()}
    further = {f"value.{name}": value for name, value in values.pop("values").items()}
    error = values.pop("error") or {}
    return {**_flat(values), "error": error.get("message"), **groups, **further}


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values by dotted names; lists stay lists."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat
