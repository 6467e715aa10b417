"""The command: leaderboard, figures, tables and sample pages of all runs below a results folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evalkit.cli.flags import ended, flags
from evalkit.errors import RunError

if TYPE_CHECKING:
    from .board import Board

EPILOG = """\
Writes leaderboard.html (one file, no network), leaderboard.md, leaderboard.csv, figures/*.svg and a page with all
questions of each run, and makes scores.csv and efficiency.csv again. Summaries that are missing or older than their
records are made again from the records. Exit code 0: written. 1: there is nothing to show.
"""


def main(argv: Sequence[str]) -> int:
    return ended(run, parser().parse_args(argv))


def parser() -> argparse.ArgumentParser:
    made = flags("python -m evalkit.report", "Leaderboard and sample pages of all runs below a results folder.", EPILOG)
    made.add_argument(
        "results", type=Path, nargs="?", default=Path("results"), help="results folder (default: results)"
    )
    made.add_argument("--out", type=Path, help="where the pages go (default: the results folder)")
    made.add_argument(
        "--published",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show published scores beside the runs' own (default: yes)",
    )
    made.add_argument(
        "--samples",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write a page for every run, with all its questions (default: yes)",
    )
    made.add_argument(
        "--thumbnails",
        type=int,
        default=12,
        metavar="N",
        help="frames of each video to show on its timeline, where the video is still there (default: 12; 0: none)",
    )
    made.add_argument(
        "--thumbnail-videos",
        type=int,
        default=40,
        metavar="N",
        help="most videos, of all runs together, that get thumbnails: one picture file each (default: 40)",
    )
    made.add_argument(
        "--thumbnail-minutes",
        type=float,
        default=10.0,
        metavar="M",
        help="time to spend on reading videos; the next call goes on from there (default: 10)",
    )
    return made


def run(arguments: argparse.Namespace) -> int:
    from . import board, entries, leaderboard

    results: Path = arguments.results
    out: Path = arguments.out or results
    found = entries.collect(results, tuple(arguments.plugins))
    made = board.build(found.entries)
    try:
        out.mkdir(parents=True, exist_ok=True)
        missing = _tables(results, out)
        files = leaderboard.write(found, made, out, results, arguments.published)
        missing += _samples(made, out, arguments) if arguments.samples else []
    except OSError as error:
        raise RunError(
            f"{error.filename or out} cannot be written ({error.strerror}). Name another folder with --out."
        ) from None
    for entry in found.entries:
        if problems := entry.digest.problems:
            more = f" (and {len(problems) - 1} more damaged lines)" if len(problems) > 1 else ""
            print(f"warning: left out: {problems[0]}{more}", file=sys.stderr)
    for reason in found.left_out:
        print(f"warning: left out: {reason}", file=sys.stderr)
    for reason in missing:
        print(f"warning: {reason}", file=sys.stderr)
    for file in files:
        print(file)
    return 0


def _tables(results: Path, out: Path) -> list[str]:
    """Make scores.csv and efficiency.csv again. Pages of somebody else's results can do without."""
    from evalkit.trackers.csv import rebuild_tables

    try:
        rebuild_tables(results)
    except OSError as error:
        if out == results:
            raise
        return [f"the tables in {results} are as they were: they cannot be written ({error.strerror})"]
    return []


def _samples(made: Board, out: Path, arguments: argparse.Namespace) -> list[str]:
    from . import samples
    from .thumbnails import Thumbnails

    folder, seconds = out / "samples" / "thumbnails", 60 * arguments.thumbnail_minutes
    strips = Thumbnails(folder, arguments.thumbnails, arguments.thumbnail_videos, seconds)
    return samples.write(made, out, strips)
