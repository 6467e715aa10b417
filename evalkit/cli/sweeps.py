"""What a sweep leaves: a line for each cell, written by the cell itself wherever it ran, and a list of those that
failed with the commands to run them."""

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

from evalkit.dry_run.text import show_sweep
from evalkit.runs import write_atomically

NOT_ENDED = -1

_ENDED: list[int] = []


def note_cell(code: int, forecast: dict[str, Any] | None = None) -> None:
    """Called by each cell when it begins (NOT_ENDED, which stays where the cell is killed) and when it ends; `forecast`
    is what a dry run found."""
    about = HydraConfig.get()
    folder = Path(about.sweep.dir)
    folder.mkdir(parents=True, exist_ok=True)
    cell = {"number": about.job.num, "overrides": list(about.overrides.task), "exit_code": code, "forecast": forecast}
    write_atomically(folder / f"cell-{about.job.num}.json", json.dumps(cell))


def take_codes() -> list[int]:
    """The exit codes of the sweep that has just ended in this process."""
    codes, _ENDED[:] = list(_ENDED), []
    return codes


def read_cells(folder: Path) -> list[dict[str, Any]]:
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("cell-*.json")]
    return sorted(cells, key=lambda cell: int(cell["number"]))


class Cells(Callback):
    """Hydra calls this in the process that started the sweep."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        cells = read_cells(Path(config.hydra.sweep.dir))
        _ENDED[:] = [1 if cell["exit_code"] == NOT_ENDED else cell["exit_code"] for cell in cells]
        if any(cell["forecast"] for cell in cells):
            show_sweep(cells)
        print(summary(cells), file=sys.stderr, flush=True)


def summary(cells: Sequence[dict[str, Any]]) -> str:
    failed = [cell for cell in cells if cell["exit_code"]]
    lines = [f"sweep: {len(cells) - len(failed)} of {len(cells)} cells complete"]
    if failed:
        lines.append("not complete; finished answers are kept, each command continues its cell:")
        lines += [f"  python -m evalkit {shlex.join(cell['overrides'])} hydra.mode=RUN" for cell in failed]
    return "\n".join(lines)
