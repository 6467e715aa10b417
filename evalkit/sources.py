"""Where the data of a benchmark is read from: `source=hub`, `source=local` or `source=mini`. No source falls back to
another."""

from __future__ import annotations

import os
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

from filelock import FileLock

from evalkit.errors import ConfigError, DataError
from evalkit.paths import benchmark_folders, cache_dir
from evalkit.task import DataSet, Task


@dataclass
class Source(ABC):
    kind: ClassVar[str]

    @abstractmethod
    def open(self, task: Task) -> DataSet:
        """Find the task's data on this machine. Raises DataError that says how to get it."""


@dataclass
class Hub(Source):
    """The copy that `python -m evalkit.fetch` made, or one that another harness unpacked below `$HF_HOME`."""

    kind = "hub"

    def open(self, task: Task) -> DataSet:
        if task.hub is None:
            raise ConfigError(f"{task.benchmark} has no hub copy: use source=local source.root=<folder>.")
        places = benchmark_folders(task.hub.folder)
        for place in places:
            if place.is_dir():
                remedy = (
                    f"Check it with `python -m evalkit.doctor task={task.name}` and get what is missing with "
                    f"`python -m evalkit.fetch task={task.name}`."
                )
                return DataSet(place, self.kind, remedy)
        size = f" (about {task.hub.size_gb:g} GB)" if task.hub.size_gb else ""
        raise DataError(
            f"{task.benchmark} is in none of {', '.join(map(str, places))}. Get it with `python -m evalkit.fetch "
            f"task={task.name}`{size}, name your own copy with source=local source.root=<folder>, or try source=mini."
        )


@dataclass
class Local(Source):
    """A folder of the user's, in the official layout or that of the hub copy."""

    root: str | None = None
    kind = "local"

    def open(self, task: Task) -> DataSet:
        if not self.root:
            raise ConfigError("source=local needs source.root=<folder of the benchmark>.")
        root = Path(self.root).expanduser()
        if not root.is_dir():
            raise DataError(f"source.root={self.root} is not a folder.")
        remedy = (
            f"Copy what is missing there; `python -m evalkit.doctor task={task.name} source=local source.root={root}` "
            "lists all that is wrong."
        )
        return DataSet(root.resolve(), self.kind, remedy)


@dataclass
class Mini(Source):
    """A small version of the benchmark, which evalkit writes on first use: real video files in the official layout."""

    root: str | None = None
    kind = "mini"

    def open(self, task: Task) -> DataSet:
        parent = Path(self.root).expanduser() if self.root else cache_dir() / "mini"
        root = parent / f"{task.name}-{_version(type(task))}"
        if not root.is_dir():
            try:
                parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise DataError(
                    f"the miniature of {task.benchmark} cannot be written to {parent} ({error.strerror}). "
                    "Name another folder with source.root=<folder> or the variable EVALKIT_CACHE."
                ) from None
            _make(task, root)
        return DataSet(root, self.kind)


def _make(task: Task, root: Path) -> None:
    """Write the miniature under a temporary name and rename it, so that no other process reads an incomplete one."""
    with FileLock(str(root.parent / f".{root.name}.lock")):
        if root.is_dir():  # another process has written it
            return
        temporary = root.parent / f".{root.name}.{os.getpid()}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        task.make_miniature(temporary)
        temporary.rename(root)


def _version(task: type[Task]) -> str:
    """A hash of the code that writes the miniature, so that one written by other code is not read."""
    import inspect

    from evalkit.video import scenes, write

    files = {Path(inspect.getfile(cls)) for cls in task.__mro__ if cls not in (object, ABC)}
    files |= {script for file in files for script in (file.parent / "_mini").glob("*.py")}
    files |= {Path(module.__file__) for module in (scenes, write) if module.__file__}
    return sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()[:10]
