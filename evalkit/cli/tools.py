"""What the commands beside the run share: arguments, a task with its data, one way to end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from evalkit import CONFIGS
from evalkit.cli.command import config_dirs, fail
from evalkit.cli.compose import check_names, compose, require
from evalkit.errors import ConfigError, EvalkitError, suggest


@dataclass(frozen=True)
class Arguments:
    """`names` are the words that are no settings (files, run folders); `overrides` the key=value ones."""

    names: list[str]
    overrides: list[str]
    dirs: list[Path]

    def setting(self, key: str, default: str | None = None) -> str | None:
        """Take a setting of the command's own out of the overrides."""
        for override in list(self.overrides):
            if override.startswith(f"{key}="):
                self.overrides.remove(override)
                return override.partition("=")[2]
        return default

    def flag(self, key: str, default: bool = False) -> bool:
        """Take a setting that is true or false."""
        value = (self.setting(key, str(default)) or "").lower()
        if value not in ("true", "false"):
            raise ConfigError(f"{key}={value}: choose true or false.")
        return value == "true"

    def compose(self, name: str = "data") -> DictConfig:
        """The configuration of a command; raises ConfigError naming key and near match."""
        require(["task"], check_names(self.overrides, self.dirs, name), self.dirs)
        return compose(self.overrides, self.dirs, name)


def main(run: Callable[[Arguments], int], usage: str, flags: Sequence[str] = ()) -> None:
    """Run a command and exit: 0, or 1 with one message. `usage` is its help."""
    argv = sys.argv[1:]
    if any(a in ("-h", "--help") for a in argv):
        print(usage.strip())
        sys.exit(0)
    try:
        sys.exit(run(_arguments(argv, flags)))
    except EvalkitError as error:
        sys.exit(fail(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _arguments(argv: Sequence[str], flags: Sequence[str]) -> Arguments:
    names: list[str] = []
    overrides: list[str] = []
    skip = False
    for argument in argv:
        if skip:
            skip = False
        elif argument in ("--config-dir", "-cd"):
            skip = True
        elif argument.startswith("-"):
            if argument.partition("=")[0] not in (*flags, "--config-dir"):
                raise ConfigError(f"unknown option {argument}.{suggest(argument, ['--help', '--config-dir', *flags])}")
            names.append(argument)
        else:
            (overrides if "=" in argument and not Path(argument).exists() else names).append(argument)
    return Arguments(names, overrides, [CONFIGS, *config_dirs(argv)])
