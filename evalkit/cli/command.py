"""The command line around Hydra: help without imports, clear messages, exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from evalkit import CONFIGS
from evalkit.cli.compose import GROUPS, cells, check_names, choices, compose, require, swept
from evalkit.errors import ConfigError, EvalkitError, suggest

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
  python -m evalkit task=lvbench model=videoxl2 dry_run=true     tokens, KV bytes and time it would take

See also  python -m evalkit.doctor | fetch | report | compare | rescore | import_log  (each with --help)
Exit code 0: every question asked and graded. 1: a mistake in the command or the data. 3: below min_coverage.
130: interrupted; the same command continues.
"""


def help_text() -> str:
    from evalkit import __version__

    groups = "\n".join(f"  {group + '=':<12} {', '.join(choices(group))}" for group in GROUPS if choices(group))
    return HELP.format(version=__version__, groups=groups)


def prepared(argv: Sequence[str]) -> list[str]:
    """The arguments as Hydra gets them: flags first, since it takes nothing behind an override; the embedded experiment
    where nothing at all is named."""
    flags, overrides = split(argv)
    if not overrides:
        print(f"nothing named: taking {_EMBEDDED} (miniature data, miniature model)", file=sys.stderr)
        overrides = [_EMBEDDED]
    return [*flags, *overrides]


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags (with their values), and the overrides. Raises ConfigError for a flag that does not exist."""
    flags: list[str] = []
    overrides: list[str] = []
    words = iter(argv)
    for word in words:
        name = word.partition("=")[0]
        if not word.startswith("-"):
            overrides.append(word)
        elif name in _WITH_VALUE:
            flags.append(word)
            if "=" not in word:
                flags.append(next(words, ""))
        elif name in _SWITCHES:
            flags.append(word)
        else:
            raise ConfigError(f"there is no option {name}.{suggest(name, [*_WITH_VALUE, *_SWITCHES])} See --help.")
    return flags, overrides


_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    *("--experimental-rerun", "--info", "-i"),
}
_SWITCHES = {"--multirun", "-m", "--run", "-r", "--resolve", "--hydra-help", "--version", "--shell-completion", "-sc"}


def config_dirs(argv: Sequence[str]) -> list[Path]:
    """The user's own config folders. Raises ConfigError for one that is none."""
    dirs = [Path(value) for flag, value in pairwise(argv) if flag in ("--config-dir", "-cd")]
    dirs += [Path(a.partition("=")[2]) for a in argv if a.startswith("--config-dir=")]
    for folder in dirs:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder} is no folder.")
    return dirs


def check(argv: Sequence[str]) -> None:
    """Raise ConfigError, naming the near match, for a group, choice or key that does not exist. Hydra would find most
    of them too, but says so in terms of its own machinery."""
    flags, words = split(argv)
    overrides = [word for word in words if not word.lstrip("+~").startswith("hydra")]
    dirs = [CONFIGS, *config_dirs(argv)]
    if {"--cfg", "-c"}.intersection(f.partition("=")[0] for f in flags) and {"-m", "--multirun"}.intersection(flags):
        raise ConfigError("--cfg shows one configuration: leave out -m and name one value of each setting.")
    given = check_names(overrides, dirs)
    if any(a.startswith(("hydra.searchpath", "--experimental-rerun")) for a in argv):
        return  # groups that only Hydra can see: it reports on them itself
    require([] if "experiment" in given else ["task", "model"], given, dirs)
    compose(overrides, dirs)
    _check_cells(overrides, dirs)
    sweeping = bool({"-m", "--multirun"}.intersection(flags)) or any(word.startswith("hydra.mode") for word in words)
    if not sweeping and (several := swept(overrides)):
        raise ConfigError(f"{several[0]} names several values: add -m to run one after the other.")


def _check_cells(overrides: Sequence[str], dirs: Sequence[Path]) -> None:
    """What is wrong with any cell of a sweep is said before the first one starts."""
    sweep = cells(overrides, dirs)
    if len(sweep) < 2:
        return
    from evalkit import job

    for cell in sweep:
        try:
            job.plan(compose(cell, dirs))
        except ConfigError as error:
            changed = [override for override in cell if override not in overrides]
            raise ConfigError(f"{' '.join(changed)}: {error} No cell of the sweep was started.") from None


def fail(error: EvalkitError) -> int:
    print(f"error: {error}", file=sys.stderr, flush=True)
    return 1


def main() -> int:
    """`python -m evalkit`. Returns the exit code."""
    argv = sys.argv[1:]
    if any(a in ("--help", "-h") for a in argv):
        print(help_text())
        return 0
    if "--version" in argv:
        from evalkit import __version__

        print(f"evalkit {__version__}")
        return 0
    hydra_only = {"--hydra-help", "--shell-completion", "-sc"}
    try:
        if not hydra_only.intersection(argv):
            argv = prepared(argv)
            check(argv)
    except EvalkitError as error:
        return fail(error)
    from evalkit.cli import hydra_job

    return hydra_job.start(argv)
