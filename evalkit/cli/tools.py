"""Shared by the commands that take settings (ask, fetch, doctor, rescore, import-log, tasks, models)."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from evalkit import plugins
from evalkit.cli.command import fail
from evalkit.cli.compose import check_names, compose, require, swept
from evalkit.cli.words import normalized, search_dirs
from evalkit.errors import ConfigError, EvalkitError, suggest

_SETTING = re.compile(r"[+~]*[\w.@/-]*=")
"""The start of a word that is a setting. A sentence with "=" in it is none."""


@dataclass(frozen=True)
class Arguments:
    """`names`: the words that are not settings (files, run folders). `overrides`: the key=value words. `dirs`: where
    configs are searched."""

    names: list[str]
    overrides: list[str]
    dirs: list[Path]

    def setting(self, key: str, default: str | None = None) -> str | None:
        """Remove a setting of the command's own from the overrides and return its value."""
        for override in list(self.overrides):
            if override.startswith(f"{key}="):
                self.overrides.remove(override)
                return override.partition("=")[2]
        return default

    def flag(self, key: str, default: bool = False) -> bool:
        """Remove a setting that is true or false and return it."""
        value = (self.setting(key, str(default)) or "").lower()
        if value not in ("true", "false"):
            raise ConfigError(f"{key}={value}: choose true or false.")
        return value == "true"

    def compose(self, name: str = "data") -> DictConfig:
        """The configuration configs/<name>.yaml with the overrides. Raises ConfigError naming key and near match."""
        require(["task"], check_names(self.overrides, self.dirs, name), self.dirs)
        config = compose(self.overrides, self.dirs, name)
        if several := swept(self.overrides):
            raise ConfigError(f"{several[0]} names several values, and this command takes one.")
        config.plugins = plugins.names(config.plugins)
        return config


def main(run: Callable[[Arguments], int], usage: str, flags: Sequence[str] = ()) -> None:
    """Run a command and exit: with its own code, or with 1 and one message. `usage`: its help."""
    argv = sys.argv[1:]
    if any(word in ("-h", "--help") for word in argv):
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
    for word in argv:
        if skip:
            skip = False
        elif word in ("--config-dir", "-cd"):
            skip = True
        elif word.startswith("-"):
            if word.partition("=")[0] not in (*flags, "--config-dir", "-cd"):
                raise ConfigError(f"there is no option {word}.{suggest(word, ['--help', '--config-dir', *flags])}")
            if word.partition("=")[0] in flags:
                names.append(word)
        else:
            (overrides if _SETTING.match(word) and not Path(word).exists() else names).append(word)
    return Arguments(names, normalized(overrides), search_dirs(argv))
