"""The command line before Hydra: commands, help without imports, checks with clear messages, exit codes."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from evalkit.cli.commands import COMMANDS, named, program, start
from evalkit.cli.compose import GROUPS, cells, check_names, choices, compose, hydra_settings, require, swept
from evalkit.cli.words import normalized, search_dirs, split
from evalkit.errors import ConfigError, EvalkitError, install_hint, suggest

_EMBEDDED = "experiment=embedded"

HELP = """\
evalkit {version}: evaluation of long-video language models

  {program} task=<task> model=<model> [group=choice ...] [key=value ...]
  {program} <command> ...

Commands (each with --help; `python -m evalkit.<command>` is the same):
{commands}

Groups and their choices:
{groups}

Settings are Hydra overrides: `--cfg job` prints all of them, `-m` sweeps over comma-separated values, `--config-dir
FOLDER` adds your own configs, `plugins=PACKAGE` allows classes of your own package.

Examples
  {program}                                              the embedded demo: miniature data, miniature model
  {program} task=mlvu model=videoxl2                     the real evaluation
  {program} -m task=lvbench model=videoxl2 model.bilevel_decode.compression=2,4,8
  {program} task=lvbench model=videoxl2 dry_run=true     print tokens, KV bytes and time, and stop

Tab completion of settings in bash: eval "$(evalkit -sc install=bash)"
Exit code 0: every question asked and graded. 1: a mistake in the command or the data. 3: below min_coverage.
130: interrupted; the same command continues.
"""


def main() -> int:
    """The console script, and `python -m evalkit`. Returns the exit code."""
    argv = sys.argv[1:]
    program()
    if argv and (name := named(argv[0])):
        return start(name, argv[1:])
    return run(argv)


def run(argv: Sequence[str]) -> int:
    """The main job. Returns the exit code."""
    try:
        return _run(argv)
    except EvalkitError as error:
        return fail(error)
    except KeyboardInterrupt:  # before a run has begun or after it has ended: there is nothing to save
        return 130


def fail(error: EvalkitError) -> int:
    """Print the message of a user's mistake. Returns exit code 1."""
    print(f"error: {error}", file=sys.stderr, flush=True)
    return 1


def _run(argv: Sequence[str]) -> int:
    if any(word in ("--help", "-h") for word in argv):
        print(help_text(search_dirs(argv)))
        return 0
    if "--version" in argv:
        from evalkit import __version__

        print(f"evalkit {__version__}")
        return 0
    flags, overrides = split(argv)
    _check_words(overrides)
    if not {"--shell-completion", "-sc", "--hydra-help"}.intersection(flags):
        flags, overrides = prepared(argv)
        check(flags, overrides)
    elif "COMP_LINE" in os.environ:
        _complete_commands()
    from evalkit.cli import hydra_job

    return hydra_job.start([*flags, *overrides], search_dirs(argv)[1:])


def help_text(dirs: Sequence[Path]) -> str:
    """The help, with the choices of the config folders `dirs`."""
    from evalkit import __version__

    commands = "\n".join(f"  {name:<12} {command.summary}" for name, command in COMMANDS.items())
    found = {group: sorted({name for folder in dirs for name in choices(group, folder)}) for group in GROUPS}
    groups = "\n".join(_wrapped(f"  {group + '=':<13}", names) for group, names in found.items() if names)
    return HELP.format(version=__version__, program=program(), commands=commands, groups=groups)


def _wrapped(label: str, names: Sequence[str]) -> str:
    return textwrap.fill(
        ", ".join(names), 100, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False
    )


def _check_words(overrides: Sequence[str]) -> None:
    """Raise ConfigError for a word that is neither a command in the first place nor a setting."""
    for word in overrides:
        if "=" in word or word.startswith("~") or not word:
            continue
        if name := named(word):
            raise ConfigError(f"a command is the first word: {program()} {name} ...")
        known = [*COMMANDS, *(f"{group}={name}" for group in ("task", "model") for name in choices(group))]
        near = suggest(word, COMMANDS) or suggest(f"task={word}", known) or suggest(f"model={word}", known)
        raise ConfigError(
            f'"{word}" is neither a command nor a setting.{near} Commands: {", ".join(COMMANDS)}. Settings are written '
            "key=value."
        )


def prepared(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags and the overrides. Without any override: the embedded experiment."""
    flags, overrides = split(argv)
    if not overrides:
        print(f"no task and no model are named: running {_EMBEDDED} (miniature data, miniature model)", file=sys.stderr)
        overrides = [_EMBEDDED]
    return flags, normalized(overrides)


def check(flags: Sequence[str], words: Sequence[str]) -> None:
    """Raise ConfigError, naming the near match, for a group, choice, key or value that does not exist. Hydra would
    report most of them too, but in terms of its own internals."""
    _check_flags(flags)
    dirs = search_dirs(flags)
    overrides = [word for word in words if not word.lstrip("+~").startswith("hydra")]
    given = check_names(overrides, dirs)
    if any(word.startswith("hydra.searchpath") for word in words):
        return  # only Hydra can see those configs, so Hydra reports what is wrong with them
    require([] if "experiment" in given else ["task", "model"], given, dirs)
    compose(overrides, dirs)
    _check_launcher(words)
    hydra = hydra_settings(words, dirs)
    if {"--multirun", "-m"}.intersection(flags) or str(hydra.mode) == "RunMode.MULTIRUN":
        _check_cells(overrides, hydra, dirs)
    elif several := swept(overrides):
        raise ConfigError(f"{several[0]} names several values: add -m to run one after the other.")
    elif launcher := [word for word in words if word.startswith("hydra/launcher=")]:
        raise ConfigError(f"{launcher[0]} starts the cells of a sweep, and this is a single run: add -m.")


def _check_flags(flags: Sequence[str]) -> None:
    modes = [flag for flag in flags if flag.split("=")[0] in ("--run", "-r", "--multirun", "-m", "--cfg", "--info")]
    if len(modes) > 1:
        raise ConfigError(f"{modes[0]} and {modes[1]} exclude each other: leave one of them out.")
    for flag in flags:
        if flag.split("=")[0] in ("--resolve", "--package", "-p") and not any(m.startswith("--cfg") for m in modes):
            raise ConfigError(f"{flag} belongs to --cfg: add --cfg job.")


_LAUNCHERS = {"basic": None, "slurm": "slurm", "submitit_slurm": "slurm", "submitit_local": "slurm", "joblib": "joblib"}
"""Choices of hydra/launcher -> the extra that installs it; None: a part of Hydra."""

_LAUNCHER_MODULES = {"slurm": "submitit", "joblib": "hydra_plugins.hydra_joblib_launcher"}


def _check_launcher(words: Sequence[str]) -> None:
    """Raise ConfigError for a launcher that is misspelt or not installed."""
    from importlib.util import find_spec

    for word in words:
        key, _, name = word.partition("=")
        if key != "hydra/launcher":
            continue
        if name not in _LAUNCHERS:
            raise ConfigError(f"{word}: there is no such launcher.{suggest(name, _LAUNCHERS)} {', '.join(_LAUNCHERS)}.")
        extra = _LAUNCHERS[name]
        if extra and (find_spec("hydra_plugins") is None or find_spec(_LAUNCHER_MODULES[extra]) is None):
            raise ConfigError(f"{word} needs a package that is not installed: {install_hint(extra)}.")


def _check_cells(overrides: Sequence[str], hydra: DictConfig, dirs: Sequence[Path]) -> None:
    """Check every cell of a sweep before the first one starts."""
    from evalkit import job

    planned = cells(overrides, hydra)
    for cell in planned:
        try:
            job.plan(compose(cell, dirs))
        except ConfigError as error:
            varying = [o for o in cell if "_env" not in o and not all(o in other for other in planned)]
            raise ConfigError(f"{' '.join([*varying, ''])}{error} No cell of the sweep was started.") from None


def _complete_commands() -> None:
    """For the shell: print the commands that the line may begin with, and take a command out of the line that Hydra
    then completes."""
    program_name, *words = os.environ["COMP_LINE"].split(" ")
    if len(words) == 1:
        print(" ".join(name for name in COMMANDS if name.startswith(words[0])), end=" ")
    elif words and named(words[0]):
        os.environ["COMP_LINE"] = " ".join([program_name, *words[1:]])
