"""The command line around Hydra: help without imports, clear messages, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from evalkit import CONFIGS
from evalkit.errors import ConfigError, EvalkitError, suggest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_GROUPS = ("task", "model", "source", "experiment", "sweep", "tracker", "executor")
_EMBEDDED = "experiment=embedded"

HELP = """\
evalkit {version}: evaluation of long-video language models

  python -m evalkit task=<task> model=<model> [group=choice ...] [key=value ...]

{groups}

Settings are Hydra overrides: `--cfg job` shows them all, `-m` sweeps over comma-separated values.

Examples
  python -m evalkit                                              the embedded demo: miniature data, miniature model
  python -m evalkit task=mlvu model=videoxl2                     the real evaluation
  python -m evalkit -m task=lvbench model=videoxl2 model.bilevel_decode.compression=2,4,8

See also  python -m evalkit.doctor | fetch | report | compare | rescore | import_log  (each with --help)
Exit code 0: every question asked and graded. 1: a mistake in the command or the data. 3: below min_coverage.
130: interrupted; the same command continues.
"""


def choices(group: str, configs: Path = CONFIGS) -> list[str]:
    """The names of a config group: `video_xl_2/lvbench` for nested ones."""
    folder = configs / group
    return sorted(str(file.relative_to(folder).with_suffix("")) for file in folder.rglob("*.yaml"))


def help_text() -> str:
    from evalkit import __version__

    groups = "\n".join(f"  {group + '=':<12} {', '.join(choices(group))}" for group in _GROUPS if choices(group))
    return HELP.format(version=__version__, groups=groups)


def prepared(argv: Sequence[str]) -> list[str]:
    """The arguments as Hydra gets them: the embedded experiment where nothing at all is named."""
    if not _overrides(argv):
        print(f"nothing named: taking {_EMBEDDED} (miniature data, miniature model)", file=sys.stderr)
        return [*argv, _EMBEDDED]
    return list(argv)


def _overrides(argv: Sequence[str]) -> list[str]:
    """The override arguments among all: what is neither a flag nor a flag's value."""
    out, skip = [], False
    for argument in argv:
        if skip:
            skip = False
        elif argument in _WITH_VALUE:
            skip = True
        elif not argument.startswith("-"):
            out.append(argument)
    return out


_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--experimental-rerun", "--info", "-i"),
}


def config_dirs(argv: Sequence[str]) -> list[Path]:
    dirs = [Path(value) for flag, value in pairwise(argv) if flag in ("--config-dir", "-cd")]
    return dirs + [Path(a.partition("=")[2]) for a in argv if a.startswith("--config-dir=")]


def check(argv: Sequence[str]) -> None:
    """Raise ConfigError, naming the near match, for a group, choice or key that does not exist. Hydra would find most
    of them too, but says so in terms of its own machinery."""
    overrides = [o for o in _overrides(argv) if not o.lstrip("+~").startswith("hydra")]
    dirs = [CONFIGS, *config_dirs(argv)]
    given: set[str] = set()
    for override in overrides:
        key, separator, value = override.lstrip("+~").partition("=")
        if not separator and not override.startswith("~"):
            raise ConfigError(f'"{override}" is not a setting: write key=value, such as task={_all("task", dirs)[0]}.')
        known = [*_GROUPS, *_top_level()]
        if key.split(".")[0] not in known:
            raise ConfigError(f'there is no setting "{key}".{suggest(key, known)} There are: {", ".join(known)}.')
        if key in _GROUPS:
            given.add(key)
            for name in _names(value):
                _check_choice(key, name, dirs)
    if any(a.startswith(("hydra.searchpath", "--experimental-rerun")) for a in argv):
        return  # groups that only Hydra can see: it reports on them itself
    if "experiment" not in given:
        for group in ("task", "model"):
            if group not in given:
                raise ConfigError(f"no {group} is named: add {group}=<name>, one of {', '.join(_all(group, dirs))}.")
    compose(overrides, dirs)


def _top_level() -> list[str]:
    """The settings beside the groups, as configs/evalkit.yaml lists them."""
    lines = (CONFIGS / "evalkit.yaml").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[0] for line in lines if line[:1].isalpha() and ":" in line]
    return [name for name in names if name not in ("defaults", "hydra")]


def _names(value: str) -> list[str]:
    """The choices of a group override; several in a sweep."""
    return [name.strip().strip("'\"") for name in value.strip("[]").split(",") if name.strip() not in ("", "null")]


def _all(group: str, dirs: Sequence[Path]) -> list[str]:
    return sorted({name for folder in dirs for name in choices(group, folder)})


def _check_choice(group: str, name: str, dirs: Sequence[Path]) -> None:
    known = _all(group, dirs)
    if name not in known and not any(letter in name for letter in "(*$"):  # choice(...), glob(*), ${...}
        raise ConfigError(f'{group}="{name}" does not exist.{suggest(name, known)} There are: {", ".join(known)}.')


def compose(overrides: Sequence[str], dirs: Sequence[Path] = (CONFIGS,), name: str = "evalkit") -> DictConfig:
    """The configuration `name` with these overrides; of a sweep, with the first value of each.

    Raises ConfigError that names the key and the near match.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    searchpath = [f"hydra.searchpath=[{','.join(f'file://{d.resolve()}' for d in dirs[1:])}]"] if dirs[1:] else []
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3", job_name="evalkit"):
            groups: list[Override] = []
            values: list[Override] = []
            for override in _parsed(overrides):
                (groups if override.key_or_group in _GROUPS else values).append(override)
            config = hydra_compose(name, [*map(_single, groups), *searchpath])
            for override in values:
                if override.type == OverrideType.CHANGE and not override.package:
                    _check_key(override.key_or_group, config)
            if values:
                config = hydra_compose(name, [*map(_single, groups), *map(_single, values), *searchpath])
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_first_line(error)) from None
    return config


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
            near = suggest(part, keys) or _elsewhere(part, config)
            raise ConfigError(f'there is no setting "{key}".{near} {_list(path, keys)}')
        node, path = node[part], f"{path}.{part}".lstrip(".")


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


def fail(error: EvalkitError) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return 1


def main() -> int:
    """`python -m evalkit`. Returns the exit code."""
    argv = sys.argv[1:]
    if any(a in ("--help", "-h") for a in argv):
        print(help_text())
        return 0
    hydra_only = {"--hydra-help", "--version", "--shell-completion", "-sc"}
    try:
        if not hydra_only.intersection(argv):
            argv = prepared(argv)
            check(argv)
    except EvalkitError as error:
        return fail(error)
    from evalkit import hydra_job

    return hydra_job.start(argv)
