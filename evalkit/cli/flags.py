"""Shared by the commands that take flags (report, compare): the parser and the exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from evalkit.errors import EvalkitError, suggest


class _Parser(argparse.ArgumentParser):
    """Reports a mistake as every command does: one message, exit code 1."""

    def error(self, message: str) -> NoReturn:
        unknown = next((word for word in message.split() if word.startswith("-")), "")
        near = suggest(unknown, self._option_string_actions) if "unrecognized" in message else ""
        print(f"error: {message}.{near} See --help.", file=sys.stderr)
        sys.exit(1)


class _Packages(argparse.Action):
    """Collects `--plugins a b`, `--plugins a,b` and repeated flags in one list."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        given: Sequence[str] = [name for value in values for name in value.strip("[]").split(",") if name]
        setattr(namespace, self.dest, [*getattr(namespace, self.dest), *given])


def flags(prog: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser with the option `--plugins`."""
    parser = _Parser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--plugins",
        nargs="+",
        default=[],
        action=_Packages,
        metavar="PACKAGE",
        help="packages other than evalkit whose classes the configs of the runs may name; a,b or a b",
    )
    return parser


def ended(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """Run a command. Returns its exit code, or 1 after one message, or 130 if it was interrupted."""
    try:
        return run(arguments)
    except EvalkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
