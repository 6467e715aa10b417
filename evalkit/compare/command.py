"""The command line of compare."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from evalkit.cli.flags import ended, flags
from evalkit.errors import RunError

EPILOG = """\
A run is a folder results/<task>/<model>/<key>. All pairs of the runs are compared, in the order given. 95% intervals
and p-values are from one t test clustered by video; p (Holm) is adjusted over slices, and over pairs of runs.
Exit code 0: compared, whatever the verdict. 1: the runs cannot be compared.
"""


def main(argv: Sequence[str]) -> int:
    return ended(run, command_parser().parse_args(argv))


def command_parser() -> argparse.ArgumentParser:
    parser = flags("python -m evalkit.compare", "A verdict on two or more runs of the same benchmark.", EPILOG)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders, two or more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all to FILE, every changed question too")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    parser.add_argument("--show", type=int, default=5, metavar="N", help="changed questions to name (default: 5)")
    return parser


def run(arguments: argparse.Namespace) -> int:
    from . import show
    from .comparison import compare_runs

    comparison = compare_runs(arguments.runs, tuple(arguments.plugins))
    if arguments.json:
        try:
            arguments.json.write_text(
                json.dumps(comparison.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
            )
        except OSError as error:
            raise RunError(f"{arguments.json} cannot be written ({error.strerror}).") from None
    show.markdown(comparison, arguments.show) if arguments.markdown else show.terminal(comparison, arguments.show)
    return 0
