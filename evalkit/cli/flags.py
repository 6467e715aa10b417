"""What the commands that take flags share (report, compare): the parser, and one way to end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from evalkit.errors import EvalkitError


def flags(prog: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """A parser that knows `--plugins`."""
    made = argparse.ArgumentParser(
        prog=prog, description=description, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument(
        "--plugins",
        nargs="*",
        default=[],
        metavar="PACKAGE",
        help="packages beside evalkit whose tasks the runs' configurations may name",
    )
    return made


def ended(run: Callable[[argparse.Namespace], int], arguments: argparse.Namespace) -> int:
    """The exit code of a command: its own, or 1 with one message."""
    try:
        return run(arguments)
    except EvalkitError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
