"""Makes objects from YAML: the schema of the whole configuration, and the only code that instantiates a `_target_`.

A group's YAML names a dataclass in `_target_`; its other keys are the fields of that dataclass. The schema of a task or
model is therefore in the file of the task or model. Misspelt keys, wrong types and impossible values are reported
before anything heavy is imported.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evalkit import plugins as plugin_packages
from evalkit.errors import ConfigError, suggest
from evalkit.text import first_line
from evalkit.video import sampling
from evalkit.video.settings import VideoSettings

_BASES = {
    "task": "evalkit.task.Task",
    "model": "evalkit.model.ModelSettings",
    "baseline": "evalkit.baseline.Baseline",
    "source": "evalkit.sources.Source",
    "executor": "evalkit.executors.base.Executor",
    "tracker": "evalkit.trackers.settings.TrackerSettings",
}
"""Group -> the class that its `_target_` has to inherit from."""

_MAX_INT = 2**63
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")


@dataclass
class DecodingSettings:
    """Token generation. null keeps the value of the protocol."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    repetition_penalty: float | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigError(f"decoding.max_new_tokens={self.max_new_tokens}: give at least 1.")
        if self.temperature is not None and self.temperature < 0:
            raise ConfigError(f"decoding.temperature={self.temperature}: give 0 (greedy) or more.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"decoding.top_p={self.top_p}: give a share above 0, at most 1.")
        if self.repetition_penalty is not None and not 0 < self.repetition_penalty < float("inf"):
            raise ConfigError(
                f"decoding.repetition_penalty={self.repetition_penalty}: give a number above 0; 1 switches it off."
            )


@dataclass
class Throughput:
    """The speeds that the dry run computes times with. `tflops`: 10^12 operations a second, the mean over vision,
    prefill and token generation. `video_speed`: seconds of video decoded per second by all decoding processes
    together."""

    tflops: float = 300.0
    video_speed: float = 60.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"throughput.{name}={value}: give a positive number.")


@dataclass
class EvalConfig:
    """All settings of a run. Groups are typed by the dataclass that their `_target_` names."""

    task: Any = None
    model: Any = None
    source: Any = None
    executor: Any = None
    tracker: Any = None
    experiment: Any = None
    sweep: Any = None
    setting: Any = None
    baseline: Any = None
    video: VideoSettings = field(default_factory=VideoSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    results: str = "results"
    limit: int | None = None  # ask only the first questions
    min_coverage: float = 1.0  # below: exit code 3
    resume: str = "auto"  # auto | force: continue a run that was made by other code or data
    dry_run: bool = False  # print what the run would cost, and stop
    throughput: Throughput = field(default_factory=Throughput)
    vars: dict[str, Any] = field(default_factory=dict)  # the user's own values, for interpolations
    plugins: list[str] = field(default_factory=list)  # packages other than evalkit that a _target_ may name

    def __post_init__(self) -> None:
        if self.resume not in ("auto", "force"):
            raise ConfigError(f'resume="{self.resume}": choose auto or force.{suggest(self.resume, ["auto", "force"])}')
        if not 0 <= self.min_coverage <= 1:
            raise ConfigError(f"min_coverage={self.min_coverage}: give a share between 0 and 1.")
        if not self.results:
            raise ConfigError("results is empty: name a folder, such as results=results.")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit={self.limit}: give the number of questions to ask, at least 1.")


def root_settings(config: DictConfig) -> EvalConfig:
    """The typed top level. Groups stay plain mappings until `instantiate`. Raises ConfigError."""
    values = plain(config)
    values["plugins"] = plugin_packages.names(values.get("plugins", []))
    settings: EvalConfig = _typed(EvalConfig, values, "")
    settings.video.check()
    return settings


def plain(config: Any) -> dict[str, Any]:
    """A configuration as plain values, interpolations resolved. Raises ConfigError for one that cannot be resolved."""
    try:
        values = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def instantiate(node: Any, group: str, plugins: list[str] | None = None) -> Any:
    """The object of a group: `node` is its mapping with `_target_`. Raises ConfigError naming key and near match."""
    if node is None:
        raise ConfigError(f"no {group} is named: add {group}=<name>.")
    if not isinstance(node, dict | DictConfig):
        raise ConfigError(f"{group} is a single value: it must be a config with _target_. Write {group}=<name>.")
    sampling.trust([*plugin_packages.packages(), *(plugins or [])])  # settings may name a rule by its import path
    values = plain(node)
    target = values.pop("_target_", None)
    if not target:
        raise ConfigError(
            f"the {group} config has no _target_: it must name a dataclass such as evalkit.tasks.mlvu.MLVU."
        )
    return _typed(locate(str(target), group, plugins or []), values, group)


def locate(target: str, group: str, plugins: list[str]) -> type[Any]:
    """The class that a `_target_` names. It must be in evalkit, in an installed plug-in or in a package of `plugins`,
    because a config file is data and must not be able to run arbitrary code; and it must be of the group's base class.
    Raises ConfigError."""
    allowed = ["evalkit", *plugin_packages.packages(), *plugins]
    if not any(target.startswith(f"{package}.") for package in allowed):
        package = target.split(".")[0]
        raise ConfigError(
            f'{group}._target_="{target}" is outside evalkit. If you trust that package, add plugins={package} '
            f"(report and compare: --plugins {package})."
        )
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigError(f'{group}._target_="{target}": there is no module {error.name}.') from None
        raise ConfigError(f"{target} needs the package {error.name}, which is not installed.") from None
    found = getattr(module, name, None)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ConfigError(f'{group}._target_="{target}": {module_name} has no dataclass {name}.')
    _check_base(found, target, group)
    return found


def _check_base(found: type[Any], target: str, group: str) -> None:
    if group in _BASES:
        module_name, _, name = _BASES[group].rpartition(".")
        if not issubclass(found, getattr(importlib.import_module(module_name), name)):
            raise ConfigError(
                f'{group}._target_="{target}": this class does not fit the group {group}, because it does not inherit '
                f"from {_BASES[group]}."
            )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise ConfigError(f'{group}._target_="{target}": this class is abstract; it does not define {missing}.')


def _typed(cls: type[Any], values: dict[str, Any] | DictConfig, group: str) -> Any:
    """`values` as an instance of the dataclass `cls`, checked against its fields and types. Raises ConfigError."""
    given = plain(values)
    _check_keys(cls, given, group)
    try:
        for key, value in _leaves(given, group):
            if value == "???":  # merging would silently take the default of the class
                raise ConfigError(f"{key} has no value: add {key}=<value>.")
        merged = OmegaConf.merge(OmegaConf.structured(cls), given)
        if missing := sorted(OmegaConf.missing_keys(merged)):
            key = _join(group, missing[0])
            raise ConfigError(f"{key} has no value: add {key}=<value>.")
        for key, value in _leaves(OmegaConf.to_container(merged), group):
            check_value(key, value)
        return OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        key = _join(group, str(getattr(error, "full_key", None) or ""))
        reason = first_line(error)
        if "not Optional" in reason or "Incompatible value 'None'" in reason:
            reason = "null is not allowed here, give a value"
        raise ConfigError(f"{key}: {reason}.") from None


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _leaves(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """(key, value) of each single value, in lists too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, _join(key, str(name)))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, key)
    else:
        yield key, value


def check_value(key: str, value: Any) -> None:
    """Raise ConfigError for a value that no setting can have: nan, inf, an integer of more than 64 bits, and a key or
    password given as a setting `..._env`, which takes the name of an environment variable. The message does not
    repeat such a value."""
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{key}={value}: give a finite number.")
    if isinstance(value, int) and not -_MAX_INT <= value < _MAX_INT:
        raise ConfigError(f"{key}={value}: the number is too large; give less than 2^63 (about 9.2e18).")
    if key.endswith("_env") and isinstance(value, str) and value and not _is_variable(value):
        raise ConfigError(
            f"{key} takes the name of an environment variable, such as OPENAI_API_KEY, not the key itself. (The given "
            f"value is not repeated here.) Write `export OPENAI_API_KEY=...`, then {key}=OPENAI_API_KEY."
        )


def _is_variable(value: str) -> bool:
    """Whether a text is the name of an environment variable. Upper case only, and long names need an underscore: many
    keys consist of letters and digits alone."""
    return value in os.environ or bool(_VARIABLE.fullmatch(value) and ("_" in value or len(value) < 16))


def _check_keys(cls: type[Any], values: dict[str, Any], group: str) -> None:
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    hints = get_type_hints(cls)
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(
                f'{group or "evalkit"} has no setting "{key}".{suggest(key, fields)} There are: {", ".join(fields)}.'
            )
        inner = hints[key]
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            path = _join(group, key)
            if not isinstance(value, dict):
                names = ", ".join(f.name for f in dataclasses.fields(inner) if f.init)
                raise ConfigError(f"{path} is a group of settings ({names}): write {path}.<setting>=<value>.")
            _check_keys(inner, value, path)


def identity(settings: Any) -> dict[str, Any]:
    """The settings that can change an answer: all fields without NEUTRAL metadata, nested dataclasses included."""
    out: dict[str, Any] = {}
    for f in dataclasses.fields(settings):
        if not f.init or f.metadata.get("neutral"):
            continue
        value = getattr(settings, f.name)
        out[f.name] = identity(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    return out
