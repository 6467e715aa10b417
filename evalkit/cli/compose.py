"""Composes the configuration with Hydra, and reports clearly what is wrong with an override."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from evalkit import CONFIGS, plugins
from evalkit.errors import ConfigError, suggest
from evalkit.text import first_line

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

GROUPS = ("task", "model", "baseline", "source", "setting", "experiment", "sweep", "tracker", "executor")


def choices(group: str, configs: Path = CONFIGS) -> list[str]:
    """The names of a config group, nested ones as `video_xl_2/lvbench`."""
    folder = configs / group
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))


def all_choices(group: str, dirs: Sequence[Path]) -> list[str]:
    """The names of a config group in all config folders."""
    return sorted({name for folder in dirs for name in choices(group, folder)})


def check_names(overrides: Sequence[str], dirs: Sequence[Path], name: str = "evalkit") -> set[str]:
    """The groups that the overrides name, for the configuration configs/<name>.yaml. Raises ConfigError for a setting
    or a choice that does not exist."""
    given = set()
    known = _top_level(name)
    for override in overrides:
        key, separator, value = override.lstrip("+~").partition("=")
        group = key.partition("@")[0]
        if not separator and not override.startswith("~"):
            raise ConfigError(
                f'"{override}" is not a setting: write key=value, such as task={all_choices("task", dirs)[0]}.'
            )
        if group.split(".")[0] not in known:
            raise ConfigError(f'there is no setting "{key}".{suggest(key, known)} There are: {", ".join(known)}.')
        if group in GROUPS:
            given.add(group)
            _check_group_value(group, value, dirs) if separator else None
            for choice in _names(value):
                _check_choice(group, choice, dirs)
    return given


def require(groups: Sequence[str], given: set[str], dirs: Sequence[Path]) -> None:
    """Raise ConfigError, listing the choices, for a group that has no default and is not given."""
    for group in groups:
        if group not in given:
            raise ConfigError(f"no {group} is named: add {group}=<name>, one of {', '.join(all_choices(group, dirs))}.")


def _top_level(name: str) -> list[str]:
    """The groups and settings of configs/<name>.yaml."""
    from omegaconf import OmegaConf

    content = DictConfig(OmegaConf.load(CONFIGS / f"{name}.yaml"))
    groups = [str(key) for entry in content.pop("defaults") if isinstance(entry, DictConfig) for key in entry]
    return [key for key in [*groups, *map(str, content)] if not key.startswith(("override", "hydra"))]


def _names(value: str) -> list[str]:
    """The choices that a group override names; several in a sweep."""
    return [name.strip().strip("'\"") for name in value.strip("[]").split(",") if name.strip() not in ("", "null")]


def _check_group_value(group: str, value: str, dirs: Sequence[Path]) -> None:
    """Raise ConfigError for a group without a name, and for a list where one name belongs."""
    names = ", ".join(all_choices(group, dirs))
    if any(name.strip() in ("", "null") for name in value.strip("[]").split(",")):
        raise ConfigError(f"{group}={value} names nothing: leave it out, or choose one of {names}.")
    if value.startswith("[") and group not in ("setting", "experiment", "sweep"):
        raise ConfigError(f"{group}={value} is a list: name one of {names}, or several with -m and commas.")


def _check_choice(group: str, name: str, dirs: Sequence[Path]) -> None:
    known = all_choices(group, dirs)
    places = [folder / group / f"{name}.yaml" for folder in dirs if name in choices(group, folder)]
    own = [place for place in places if place.parents[len(Path(group, name).parts) - 1] not in plugins.config_folders()]
    if len(own) > 1:
        raise ConfigError(f"{group}={name} exists twice, in {own[0]} and in {own[1]}: rename yours.")
    for place in places[1:]:
        print(f"warning: {group}={name} is read from {places[0]}; the plug-in's {place} is ignored.", file=sys.stderr)
    if name not in known and not any(letter in name for letter in "(*$"):  # choice(...), glob(*), ${...}
        raise ConfigError(f'{group}="{name}" does not exist.{suggest(name, known)} There are: {", ".join(known)}.')


def compose(overrides: Sequence[str], dirs: Sequence[Path] = (CONFIGS,), name: str = "evalkit") -> DictConfig:
    """The configuration `name` with these overrides; of a sweep, with the first value of each.

    Raises ConfigError naming the key and the near match.
    """
    from hydra import compose as hydra_compose
    from hydra.core.override_parser.types import OverrideType

    with _hydra():
        searchpath = _search(dirs)
        parsed = _parsed(overrides)
        groups = [override for override in parsed if override.key_or_group in GROUPS]
        values = [override for override in parsed if override.key_or_group not in GROUPS]
        config = hydra_compose(name, [*map(_single, groups), *searchpath])
        packages = _packages(config, values)
        for override in values:
            if override.type == OverrideType.CHANGE and not override.package:
                _check_key(override.key_or_group, config, packages)
        if values:
            config = hydra_compose(name, [*map(_single, groups), *map(_single, values), *searchpath])
    return config


def hydra_settings(overrides: Sequence[str], dirs: Sequence[Path] = (CONFIGS,)) -> DictConfig:
    """Hydra's own part of the configuration: mode, sweeper, launcher. Raises ConfigError."""
    from hydra import compose as hydra_compose

    with _hydra():
        whole = hydra_compose("evalkit", [*map(_single, _parsed(overrides)), *_search(dirs)], return_hydra_config=True)
    settings: DictConfig = whole.hydra
    return settings


def cells(overrides: Sequence[str], hydra: DictConfig) -> list[list[str]]:
    """The overrides of each cell of a sweep, in order. `hydra`: see `hydra_settings`. Empty for other sweepers than
    Hydra's basic one, which choose their cells while they run."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

    if not str(hydra.sweeper.get("_target_", "")).endswith("BasicSweeper"):
        return []
    params = [f"{key}={value}" for key, value in (hydra.sweeper.get("params") or {}).items()]
    (batch,) = BasicSweeper.split_arguments(_parsed([*params, *overrides]), None)
    return [list(cell) for cell in batch]


def swept(overrides: Sequence[str]) -> list[str]:
    """The overrides that name several values."""
    return [str(o.input_line) for o in _parsed(overrides) if o.is_sweep_override()]


@contextmanager
def _hydra() -> Iterator[None]:
    """Hydra's compose API on evalkit's folder; its errors become ConfigError."""
    from hydra import initialize_config_dir
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="evalkit"):
            yield
    except OverrideParseException as error:
        shown = str(error.override)
        if "_env" in shown:
            shown = shown.partition("=")[0]  # the value may hold a key or password
        raise ConfigError(
            f'"{shown}" cannot be read: write key=value, and put a value with spaces, brackets, quotes or a comma at '
            "its end in quotes of its own, as in key='\"a, b\"'."
        ) from None
    except YAMLError as error:
        raise ConfigError(f"a config file is not valid YAML: {' '.join(str(error).split())}.") from None
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: a group that is a number, say
        raise ConfigError(_innermost(error)) from None


def _search(dirs: Sequence[Path]) -> list[str]:
    return [f"hydra.searchpath=[{','.join(f'file://{d.resolve()}' for d in dirs[1:])}]"] if dirs[1:] else []


def _parsed(overrides: Sequence[str]) -> list[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    return OverridesParser.create().parse_overrides(list(overrides))


def _single(override: Override) -> str:
    """The override with the first value of its sweep."""
    if not override.is_sweep_override():
        return str(override.input_line)
    value = next(iter(override.sweep_string_iterator()))
    return f"{override.get_key_element()}={value}"


def _packages(config: DictConfig, values: Sequence[Override]) -> list[str]:
    """The packages that `plugins` lists, in the configuration or on the command line."""
    given = [override.value() for override in values if override.key_or_group == "plugins"]
    return [name for value in (config.get("plugins", []), *given) for name in plugins.names(value)]


def _check_key(key: str, config: DictConfig, packages: list[str]) -> None:
    """Raise ConfigError if `config` has no such key. `packages`: those whose classes may be imported to find out."""
    node: Any = config
    path = ""
    for part in key.split("."):
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
            return  # below a value or a list; Hydra checks the rest
        if part not in node.keys():  # noqa: SIM118 - `in node` is false for a mandatory value (???)
            keys = [str(k) for k in node if not str(k).startswith("_")]
            if path and not len(node):
                raise ConfigError(f"{path} is an empty mapping: write +{key}=<value> to add to it.")
            if part in _fields_of(node, packages):
                raise ConfigError(f'"{key}" is not in the YAML of {path}: add it there, or write +{key}=<value>.')
            near = suggest(part, keys) or _elsewhere(part, config)
            raise ConfigError(f'there is no setting "{key}".{near} {_list(path, keys)}')
        node, path = node._get_node(part), f"{path}.{part}".lstrip(".")


def _fields_of(node: DictConfig, packages: list[str]) -> list[str]:
    """The settings of the class that a group names, including those that its YAML does not list."""
    from evalkit.config import locate

    target = str(node.get("_target_", ""))
    if not target:
        return []
    try:
        return [f.name for f in fields(locate(target, "", packages)) if f.init]
    except ConfigError:
        return []


def _list(path: str, keys: Sequence[str]) -> str:
    if not keys:
        return f"The chosen {path} has no settings."
    return f"{path.capitalize() or 'Settings'}: {', '.join(keys)}."


def _elsewhere(name: str, config: DictConfig) -> str:
    """' Did you mean "model.frames.max"?' for a key that was named without its group."""
    found = [path for path in _paths(config) if path.endswith(f".{name}")]
    return f' Did you mean "{found[0]}"?' if found else ""


def _paths(node: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(node, DictConfig):
        for key in map(str, node):
            yield f"{prefix}{key}"
            yield from _paths(node._get_node(key), f"{prefix}{key}.")


def _innermost(error: BaseException) -> str:
    """Hydra wraps the message of OmegaConf; the innermost message is the useful one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)
