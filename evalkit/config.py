"""From YAML to objects: the schema of the whole configuration, and the one place that instantiates a `_target_`.

A group's YAML names a dataclass in `_target_`; its other keys are that dataclass's fields. So the schema of a task or
a model lives with the task or the model, and a misspelt key, a wrong type and a value that cannot work are all found
before anything heavy is imported.
"""

from __future__ import annotations

import dataclasses
import importlib
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from evalkit.errors import ConfigError, suggest
from evalkit.video.settings import VideoSettings


@dataclass
class DecodingSettings:
    """Overrides of the protocol's token generation; null keeps the protocol's own."""

    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise ConfigError(f"decoding.max_new_tokens={self.max_new_tokens}: give at least 1.")
        if self.temperature is not None and self.temperature < 0:
            raise ConfigError(f"decoding.temperature={self.temperature}: give 0 (greedy) or more.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"decoding.top_p={self.top_p}: give a share above 0, at most 1.")


@dataclass
class Throughput:
    """What the dry run computes times with. `tflops`: 10^12 operations a second, sustained over vision, prefill and
    token generation. `video_speed`: seconds of video decoded in a second, all decoding processes together."""

    tflops: float = 300.0
    video_speed: float = 60.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ConfigError(f"throughput.{name}={value}: give a positive number.")


@dataclass
class EvalConfig:
    """Everything `python -m evalkit` can be told. Groups are typed by the dataclass their `_target_` names."""

    task: Any = None
    model: Any = None
    source: Any = None
    executor: Any = None
    tracker: Any = None
    experiment: Any = None
    sweep: Any = None
    setting: Any = None
    video: VideoSettings = field(default_factory=VideoSettings)
    decoding: DecodingSettings = field(default_factory=DecodingSettings)
    results: str = "results"
    limit: int | None = None  # ask only the first questions
    min_coverage: float = 1.0  # below: exit code 3
    resume: str = "auto"  # auto | force: continue a run that was made by other code or data
    dry_run: bool = False  # say what it would take, and stop
    throughput: Throughput = field(default_factory=Throughput)
    vars: dict[str, Any] = field(default_factory=dict)  # values of the user's own, for interpolations
    plugins: list[str] = field(default_factory=list)  # packages beside evalkit that a _target_ may name

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
    """The typed top level; groups stay plain mappings until `instantiate`."""
    settings: EvalConfig = _typed(EvalConfig, config, "")
    settings.video.check()
    return settings


def plain(config: Any) -> dict[str, Any]:
    """A configuration as plain values, interpolations resolved. Raises ConfigError for one that leads nowhere."""
    try:
        values = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}") from None
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def instantiate(node: Any, group: str, plugins: list[str] | None = None) -> Any:
    """The object of a group: `node` is its mapping with `_target_`. Raises ConfigError naming key and near match."""
    values = plain(node)
    target = values.pop("_target_", None)
    if not target:
        raise ConfigError(
            f"the {group} config has no _target_: it must name a dataclass such as evalkit.tasks.mlvu.MLVU."
        )
    return _typed(locate(target, group, plugins or []), values, group)


def locate(target: str, group: str, plugins: list[str]) -> type[Any]:
    """The class a `_target_` names. Only evalkit and the packages listed in `plugins` may be named: a config file is
    data, and must not be able to run arbitrary code."""
    if not any(target.startswith(f"{package}.") for package in ["evalkit", *plugins]):
        raise ConfigError(
            f'{group}._target_="{target}" is outside evalkit. If you trust that package, list it: '
            f"plugins=[{target.split('.')[0]}] (report and compare: --plugins {target.split('.')[0]})."
        )
    module_name, _, name = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ConfigError(f'{group}._target_="{target}": there is no module {error.name}.') from None
        raise
    found = getattr(module, name, None)
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise ConfigError(f'{group}._target_="{target}": {module_name} has no dataclass {name}.')
    return found


def _typed(cls: type[Any], values: Any, group: str) -> Any:
    """`values` as an instance of the dataclass `cls`, checked against its fields and types."""
    given = plain(values)
    _check_keys(cls, given, group)
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(cls), given))
    except OmegaConfBaseException as error:
        key = ".".join(filter(None, (group, str(getattr(error, "full_key", None) or ""))))
        raise ConfigError(f"{key}: {str(error).splitlines()[0]}.") from None


def _check_keys(cls: type[Any], values: dict[str, Any], group: str) -> None:
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
    hints = get_type_hints(cls)
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(
                f'{group or "evalkit"} has no setting "{key}".{suggest(key, fields)} There are: {", ".join(fields)}.'
            )
        inner = hints[key]
        if isinstance(inner, type) and dataclasses.is_dataclass(inner) and isinstance(value, dict):
            _check_keys(inner, value, f"{group}.{key}".lstrip("."))


def identity(settings: Any) -> dict[str, Any]:
    """The settings that can change an answer: fields without NEUTRAL metadata, nested dataclasses likewise."""
    out: dict[str, Any] = {}
    for f in dataclasses.fields(settings):
        if not f.init or f.metadata.get("neutral"):
            continue
        value = getattr(settings, f.name)
        out[f.name] = identity(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    return out
