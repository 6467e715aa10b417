"""Installed packages that add tasks, models and configs, found by the entry point group `evalkit.plugins`.

    [project.entry-points."evalkit.plugins"]
    mypackage = "mypackage"              # configs in mypackage/configs
    mypackage = "mypackage:CONFIGS"      # configs in the folder that mypackage.CONFIGS names

The folder has the same groups as evalkit's own (task/, model/, ...). A `_target_` may name a class of the package.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from evalkit.errors import ConfigError

GROUP = "evalkit.plugins"


@dataclass(frozen=True)
class Plugin:
    """`package` may be named in a `_target_`; `configs` is its folder of config groups, None if it has none."""

    name: str
    package: str
    configs: Path | None


@cache
def installed() -> tuple[Plugin, ...]:
    """The plug-ins of this environment. One that cannot be loaded is left out with a warning on stderr, so that it does
    not stop commands that do not need it."""
    found = []
    for entry in entry_points(group=GROUP):
        try:
            found.append(Plugin(entry.name, entry.module, _configs(entry)))
        except Exception as error:  # importing another package can raise anything
            reason = (str(error).strip().splitlines() or [""])[0]
            print(
                f"warning: the plug-in {entry.name} ({entry.value}) is left out: {type(error).__name__}: {reason}",
                file=sys.stderr,
            )
    return tuple(found)


def packages() -> list[str]:
    """The packages that a `_target_` may name without `plugins=`."""
    return [plugin.package for plugin in installed()]


def config_folders() -> list[Path]:
    return [plugin.configs for plugin in installed() if plugin.configs]


def names(value: object) -> list[str]:
    """The packages of a `plugins` setting: a list, or text such as "a,b" or "[a,b]". Raises ConfigError."""
    parts = value.strip("[] ").split(",") if isinstance(value, str) else value
    if isinstance(parts, Iterable):
        found = [str(part).strip(" '\"") for part in parts]
        if all(word.isidentifier() for name in found if name for word in name.split(".")):
            return [name for name in found if name]
    raise ConfigError(f"plugins={value}: name Python packages, such as plugins=mypackage or plugins=a,b.")


def _configs(entry: EntryPoint) -> Path | None:
    """Raises whatever the import of the package raises, and FileNotFoundError for a folder that does not exist."""
    if entry.attr:
        folder = Path(entry.load())
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is not a folder")
        return folder
    spec = importlib.util.find_spec(entry.module)  # imports the parents of the package, not the package itself
    if spec is None:
        raise ModuleNotFoundError(f"there is no package {entry.module}")
    folders = [Path(place) / "configs" for place in spec.submodule_search_locations or []]
    return next((folder for folder in folders if folder.is_dir()), None)
