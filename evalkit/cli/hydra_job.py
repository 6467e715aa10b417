"""The function that Hydra runs: one run, or each cell of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.types import RunMode
from omegaconf import DictConfig

from evalkit import CONFIGS, job
from evalkit.cli import sweeps
from evalkit.cli.command import fail
from evalkit.errors import EvalkitError

_codes: list[int] = []


class ConfigFolders(SearchPathPlugin):
    """Adds config folders to Hydra's search path. Hydra's own --config-dir takes only one."""

    folders: Sequence[Path] = ()

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        for folder in self.folders:
            search_path.append(provider="evalkit", path=f"file://{folder.resolve()}")


def start(argv: Sequence[str], folders: Sequence[Path] = ()) -> int:
    """Start Hydra with these words and config folders. Returns the worst exit code of its jobs."""
    sys.argv = [sys.argv[0], *(word for word in argv if not word.startswith(("--config-dir=", "-cd=")))]
    _codes.clear()
    ConfigFolders.folders = folders
    Plugins.instance().register(ConfigFolders)
    hydra.main(config_path=str(CONFIGS), config_name="evalkit", version_base="1.3")(one)()
    codes = _codes + sweeps.take_codes()
    return next((code for code in (job.INTERRUPTED, job.MISTAKE, job.BELOW_COVERAGE) if code in codes), job.OK)


def one(config: DictConfig) -> int:
    """One run. A failed cell of a sweep does not stop the others; an interrupted one does."""
    settings = HydraConfig.get()
    sweeping = settings.mode == RunMode.MULTIRUN
    group = Path(settings.sweep.dir).name if sweeping else None
    forecast_values = None
    if sweeping:
        sweeps.note_cell(sweeps.NOT_ENDED)
    try:
        planned = job.plan(config, group)
        if planned.config.dry_run:
            from evalkit.dry_run.forecast import forecast
            from evalkit.dry_run.text import show

            forecast_values = forecast(planned).plain()
            show(forecast_values)
            code = job.OK
        else:
            code = job.run(planned)
    except EvalkitError as error:
        code = fail(error)
    except KeyboardInterrupt:
        code = job.INTERRUPTED
        job.say("stopped. The same command continues with the first unanswered question.")
    _codes.append(code)
    if sweeping:
        sweeps.note_cell(code, forecast_values)
    if sweeping and code == job.INTERRUPTED:
        sys.exit(code)
    return code
