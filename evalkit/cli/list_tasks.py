"""The command `evalkit tasks`."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator

from evalkit.cli.compose import all_choices, check_names, compose
from evalkit.cli.text_table import text_table
from evalkit.cli.tools import Arguments
from evalkit.config import instantiate
from evalkit.errors import ConfigError, EvalkitError, suggest
from evalkit.plugins import names
from evalkit.sources import Hub
from evalkit.task import Task

USAGE = """\
List the benchmarks: splits, questions and videos of a complete copy, size on the hub, protocols, and where the data is
on this machine.

    evalkit tasks [TASK ...] [--config-dir FOLDER] [plugins=PACKAGE]

The default split is marked with *. "-" means that the number is not known. The data is only looked for, not checked:
`evalkit doctor task=TASK` checks it, `evalkit fetch task=TASK` downloads it.
"""

_HEADER = ("task", "benchmark", "split", "questions", "videos", "GB", "protocols", "data")


def list_tasks(arguments: Arguments) -> int:
    """Print the table. A task whose config cannot be used costs a warning."""
    packages = names(arguments.setting("plugins", ""))
    check_names(arguments.overrides, arguments.dirs, "data")
    if arguments.overrides:
        raise ConfigError(f'"{arguments.overrides[0]}": tasks takes names of tasks and plugins=PACKAGE only.')
    rows: list[tuple[str, ...]] = []
    for name in chosen("task", arguments):
        try:
            rows += _rows(name, instantiate(compose([f"task={name}"], arguments.dirs, "data").task, "task", packages))
        except EvalkitError as error:
            print(f"warning: task={name} is left out: {error}", file=sys.stderr)
    print(text_table(rows, _HEADER))
    return 0


def chosen(group: str, arguments: Arguments) -> list[str]:
    """The choices of a group that the command names; all of them if it names none."""
    known = all_choices(group, arguments.dirs)
    for name in arguments.names:
        if name not in known:
            raise ConfigError(
                f'there is no {group} "{name}".{suggest(name, known)} {group.capitalize()}s: {", ".join(known)}.'
            )
    return arguments.names or known


def _rows(name: str, task: Task) -> Iterator[tuple[str, ...]]:
    """A row for each split, the default split first."""
    for split in sorted(task.splits, key=lambda split: split != task.split):
        chosen_split = copy.copy(task)
        chosen_split.split = split
        default = split == task.split
        size = chosen_split.hub.size_gb if chosen_split.hub else None
        yield (
            name if default else "",
            task.benchmark if default else "",
            f"{split}{'*' if default else ''}",
            _counts(task.splits[split].questions),
            _counts(task.splits[split].videos),
            "-" if size is None else f"{size:g}",
            ", ".join(chosen_split.available_protocols()),
            _place(chosen_split),
        )


def _counts(counts: tuple[int, ...]) -> str:
    return " or ".join(f"{count:,}" for count in counts) or "-"


def _place(task: Task) -> str:
    """Where source=hub finds the data."""
    try:
        return str(Hub().open(task).root)
    except EvalkitError:
        return "not here" if task.hub else "not on the hub"
