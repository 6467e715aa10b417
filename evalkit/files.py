"""Finds the files of a benchmark below its folder: its tables, and the videos that they name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from evalkit.errors import DataError
from evalkit.tables import table_columns


def find_tables(
    root: Path, named: Sequence[str], others: Sequence[str] = (), columns: Sequence[Collection[str]] = ()
) -> list[Path]:
    """The tables below `root` that match the first pattern that any file matches; empty where there are none.

    `named`: patterns of the published file names. `others`: patterns that any file might match; of these, only tables
    count whose first row has all of one of the sets of `columns`.
    """
    for pattern in named:
        if tables := _files(root, pattern):
            return tables
    for pattern in others:
        if tables := [path for path in _files(root, pattern) if _has_columns(path, columns)]:
            return tables
    return []


def _files(root: Path, pattern: str) -> list[Path]:
    return sorted(path for path in root.glob(pattern) if not path.name.startswith(".") and path.is_file())


def _has_columns(path: Path, columns: Sequence[Collection[str]]) -> bool:
    found = table_columns(path)
    return any(found.issuperset(wanted) for wanted in columns)


def no_tables(root: Path, name: str, expected: str, videos: str) -> DataError:
    """The error for a folder without the tables of a benchmark. `name`: the benchmark and its split; `videos`: an
    example of a video's path below the folder."""
    return DataError(f"{root} holds no {name}: expected {expected}. Its videos go to {root / videos}.")


class VideoFiles:
    """Finds the videos of a benchmark below `root`: at the paths of its known layouts, else by name in any folder.
    Each folder is listed once, however many videos are looked for."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, frozenset[str]] = {}
        self._by_name: dict[str, list[str]] | None = None
        self._found: dict[str, Path] = {}
        self._at: dict[str, Path] = {}

    def find(self, *places: str) -> Path:
        """The first of `places` (paths below the root, with "/") that exists; else the one file below the root that
        has the name of one of them; else the first place, where the video is missing. Raises DataError if several
        different files have the name."""
        found = self._found.get(places[0])  # most videos have several questions
        if found is None:
            place = self._known(places) or self._named(places) or places[0]
            found = self._found[places[0]] = Path(f"{self.root}/{place}")
        return found

    def at(self, *places: str) -> Path:
        """The first of `places` that exists, else the first of all. No search by name."""
        found = self._at.get(places[0])
        if found is None:
            found = self._at[places[0]] = Path(f"{self.root}/{self._known(places) or places[0]}")
        return found

    def _known(self, places: Sequence[str]) -> str | None:
        for place in places:
            folder, _, name = place.rpartition("/")
            if folder not in self._folders:
                self._folders[folder] = _names(self.root / folder)
            if name in self._folders[folder]:
                return place
        return None

    def _named(self, places: Sequence[str]) -> str | None:
        if self._by_name is None:
            self._by_name = {}
            for path in _walk(self.root):
                self._by_name.setdefault(path.rpartition("/")[2], []).append(path)
        for place in places:
            if found := self._by_name.get(place.rpartition("/")[2]):
                if len({(self.root / path).stat().st_size for path in found}) > 1:
                    raise DataError(
                        f"{self.root} has different videos of one name, {found[0]} and {found[1]}: the benchmark's "
                        f"video belongs to {places[0]}. Move it there."
                    )
                return found[0]
        return None


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(path.name for path in folder.iterdir())
    except (OSError, ValueError):  # missing, not a folder or not readable: its videos are missing
        return frozenset()


def _walk(root: Path) -> Iterator[str]:
    """The files below the root (paths with "/"), those in fewer folders first. Links to folders are followed."""
    seen: set[tuple[int, int]] = set()
    level = [""]
    while level:
        below: list[str] = []
        for folder in level:
            try:
                entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
                status = (root / folder).stat()
            except OSError:
                continue
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in entries:
                path = f"{folder}/{entry.name}".lstrip("/")
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    below.append(path)
                elif entry.is_file():
                    yield path
        level = below
