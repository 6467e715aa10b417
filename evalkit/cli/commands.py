"""The table of commands. `evalkit <name>` runs the module of that command exactly as `python -m <module>` does."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """`module`: a module, or a package with a `__main__.py`. `summary`: its line in `evalkit --help`."""

    module: str
    summary: str


COMMANDS = {
    "run": Command("evalkit.run", "evaluate a model on a benchmark (the default: the word may be left out)"),
    "ask": Command("evalkit.ask", "ask a model about one video"),
    "fetch": Command("evalkit.fetch", "download a benchmark"),
    "doctor": Command("evalkit.doctor", "check that a benchmark is complete and its videos decode"),
    "report": Command("evalkit.report", "leaderboard, figures and sample pages of a results folder"),
    "compare": Command("evalkit.compare", "test whether runs of the same benchmark differ"),
    "rescore": Command("evalkit.rescore", "grade a finished run again under another protocol"),
    "import-log": Command("evalkit.import_log", "grade the outputs of another harness"),
    "tasks": Command("evalkit.tasks", "list the benchmarks, and whether their data is on this machine"),
    "models": Command("evalkit.models", "list the models, and whether their weights are on this machine"),
}


def named(word: str) -> str | None:
    """The command that a word names; `import_log` and `import-log` are the same."""
    name = word.replace("_", "-")
    return name if name in COMMANDS else None


def start(name: str, argv: Sequence[str]) -> int:
    """Run a command in this process. It ends by SystemExit with its exit code."""
    program()
    sys.argv = [sys.argv[0], *argv]
    runpy.run_module(COMMANDS[name].module, run_name="__main__", alter_sys=True)
    return 0


@cache
def program() -> str:
    """How the user has called evalkit. The first call decides, because commands replace sys.argv."""
    return "evalkit" if Path(sys.argv[0]).stem == "evalkit" else "python -m evalkit"
