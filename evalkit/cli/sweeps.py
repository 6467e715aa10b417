"""The files of a sweep: each cell writes one, wherever it runs, and the process that started the sweep lists the cells
that failed with the commands that continue them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from evalkit.cli.commands import program
from evalkit.dry_run.text import show_sweep
from evalkit.runs import write_atomically

NOT_ENDED = -1

_exit_codes: list[int] = []


def note_cell(code: int, forecast: dict[str, Any] | None = None) -> None:
    """Write the file of this cell: when it begins (with NOT_ENDED, which stays if the cell is killed) and when it ends.
    `forecast`: the result of a dry run."""
    settings = HydraConfig.get()
    number = settings.job.num
    folder = Path(settings.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    cell = {"number": number, "overrides": list(settings.overrides.task), "exit_code": code, "forecast": forecast}
    write_atomically(folder / f"cell-{number}.json", json.dumps(cell))


def take_codes() -> list[int]:
    """The exit codes of the sweep that has just ended in this process. Empties the list."""
    codes, _exit_codes[:] = list(_exit_codes), []
    return codes


def read_cells(folder: Path) -> list[dict[str, Any]]:
    """The cells of a sweep's folder, in order."""
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("cell-*.json")]
    return sorted(cells, key=lambda cell: int(cell["number"]))


class SweepEnd(Callback):
    """Hydra calls this in the process that started the sweep."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        cells = read_cells(Path(config.hydra.sweep.dir))
        _exit_codes[:] = [1 if cell["exit_code"] == NOT_ENDED else cell["exit_code"] for cell in cells]
        if any(cell["forecast"] for cell in cells):
            show_sweep(cells)
        print(summary(cells), file=sys.stderr, flush=True)


def summary(cells: Sequence[dict[str, Any]]) -> str:
    """How many cells are complete, and the commands that continue the others."""
    failed = [cell for cell in cells if cell["exit_code"]]
    lines = [f"sweep: {len(cells) - len(failed)} of {len(cells)} cells complete"]
    if failed:
        lines.append("not complete (answered questions are kept); these commands continue the cells:")
        lines += [f"  {program()} {shlex.join(cell['overrides'])} hydra.mode=RUN" for cell in failed]
    return "\n".join(lines)
