"""Composing the configuration with Hydra, and saying clearly what is wrong with an override."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from evalkit import CONFIGS
from evalkit.errors import ConfigError, suggest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

GROUPS = ("task", "model", "source", "setting", "experiment", "sweep", "tracker", "executor")


def choices(group: str, configs: Path = CONFIGS) -> list[str]:
    """The names of a config group: `video_xl_2/lvbench` for nested ones."""
    folder = configs / group
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))


def check_names(overrides: Sequence[str], dirs: Sequence[Path], name: str = "evalkit") -> set[str]:
    """The groups that are given. Raises ConfigError for a setting or a choice that does not exist."""
    given = set()
    known = [*GROUPS, *_top_level(name)]
    for override in overrides:
        key, separator, value = override.lstrip("+~").partition("=")
        if not separator and not override.startswith("~"):
            raise ConfigError(f'"{override}" is not a setting: write key=value, such as task={_all("task", dirs)[0]}.')
        if key.split(".")[0] not in known:
            raise ConfigError(f'there is no setting "{key}".{suggest(key, known)} There are: {", ".join(known)}.')
        if key in GROUPS:
            given.add(key)
            for choice in _names(value):
                _check_choice(key, choice, dirs)
    return given


def require(groups: Sequence[str], given: set[str], dirs: Sequence[Path]) -> None:
    """Raise ConfigError, listing the choices, for a group that has no default and is not given."""
    for group in groups:
        if group not in given:
            raise ConfigError(f"no {group} is named: add {group}=<name>, one of {', '.join(_all(group, dirs))}.")


def _top_level(name: str) -> list[str]:
    """The settings beside the groups, as configs/<name>.yaml lists them."""
    lines = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[0] for line in lines if line[:1].isalpha() and ":" in line]
    return [name for name in names if name not in ("defaults", "hydra")]


def _names(value: str) -> list[str]:
    """The choices of a group override; several in a sweep."""
    return [name.strip().strip("'\"") for name in value.strip("[]").split(",") if name.strip() not in ("", "null")]


def _all(group: str, dirs: Sequence[Path]) -> list[str]:
    return sorted({name for folder in dirs for name in choices(group, folder)})


def _check_choice(group: str, name: str, dirs: Sequence[Path]) -> None:
    known = _all(group, dirs)
    places = [folder / group / f"{name}.yaml" for folder in dirs if name in choices(group, folder)]
    if len(places) > 1:
        raise ConfigError(
            f"{group}={name} exists twice, in {places[0]} and in {places[1]}: give yours a name of its own."
        )
    if name not in known and not any(letter in name for letter in "(*$"):  # choice(...), glob(*), ${...}
        raise ConfigError(f'{group}="{name}" does not exist.{suggest(name, known)} There are: {", ".join(known)}.')


def compose(overrides: Sequence[str], dirs: Sequence[Path] = (CONFIGS,), name: str = "evalkit") -> DictConfig:
    """The configuration `name` with these overrides; of a sweep, with the first value of each.

    Raises ConfigError that names the key and the near match.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException, OverrideParseException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    searchpath = _search(dirs)
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="evalkit"):
            groups: list[Override] = []
            values: list[Override] = []
            for override in _parsed(overrides):
                (groups if override.key_or_group in GROUPS else values).append(override)
            config = hydra_compose(name, [*map(_single, groups), *searchpath])
            for override in values:
                if override.type == OverrideType.CHANGE and not override.package:
                    _check_key(override.key_or_group, config)
            if values:
                config = hydra_compose(name, [*map(_single, groups), *map(_single, values), *searchpath])
    except OverrideParseException as error:
        raise ConfigError(f'"{error.override}" cannot be read: {_first_line(error)}.') from None
    except YAMLError as error:
        raise ConfigError(f"a config file is no YAML: {' '.join(str(error).split())}.") from None
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_first_line(error)) from None
    return config


def cells(overrides: Sequence[str], dirs: Sequence[Path] = (CONFIGS,)) -> list[list[str]]:
    """The overrides of each cell of a sweep, in its order; one cell for a single run. Sweeps of other sweepers than
    Hydra's basic one are theirs to take apart, and count as none."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="evalkit"):
        whole = hydra_compose("evalkit", [*map(_single, _parsed(overrides)), *_search(dirs)], return_hydra_config=True)
    sweeper = whole.hydra.sweeper
    if not str(sweeper.get("_target_", "")).endswith("BasicSweeper"):
        return []
    params = [f"{key}={value}" for key, value in (sweeper.get("params") or {}).items()]
    parsed = OverridesParser.create().parse_overrides([*params, *overrides])
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    return [list(cell) for cell in batch]


def swept(overrides: Sequence[str]) -> list[str]:
    """The overrides that name several values."""
    return [str(o.input_line) for o in _parsed(overrides) if o.is_sweep_override()]


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


def _check_key(key: str, config: DictConfig) -> None:
    node: Any = config
    path = ""
    for part in key.split("."):
        if not isinstance(node, DictConfig):
            return  # below a value or a list; Hydra checks the rest
        if part not in node:
            keys = [str(k) for k in node if not str(k).startswith("_")]
            if path and not len(node):
                raise ConfigError(f"{path} holds what you put into it: write +{key}=<value>.")
            if part in _fields_of(node):
                raise ConfigError(
                    f'"{key}" does not stand in the YAML of {path}: add it there, or write +{key}=<value>.'
                )
            near = suggest(part, keys) or _elsewhere(part, config)
            raise ConfigError(f'there is no setting "{key}".{near} {_list(path, keys)}')
        node, path = node[part], f"{path}.{part}".lstrip(".")


def _fields_of(node: DictConfig) -> list[str]:
    """The settings of the class that a group names, also those its YAML does not list."""
    from evalkit.config import locate

    target = str(node.get("_target_", ""))
    if not target:
        return []
    try:
        return [f.name for f in fields(locate(target, "", [target.split(".")[0]])) if f.init]
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


def _first_line(error: BaseException) -> str:
    """Hydra wraps what OmegaConf says; the innermost message is the useful one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0]
