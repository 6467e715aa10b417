"""Which archives are unpacked to a folder, and to which files.

An archive counts as unpacked while all of its files are there in their size. So a video that was deleted is unpacked
again by the next fetch, and an archive that was deleted is not downloaded again.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from evalkit.errors import DataError
from evalkit.fetch.hub import RemoteFile, checked_place
from evalkit.runs import write_atomically


class UnpackedArchives:
    """The unpacked archives of one folder, kept in `<folder>/.fetched.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / ".fetched.json"
        self._entries: dict[str, dict[str, Any]] = {}
        if self.path.exists():
            try:
                self._entries = json.loads(self.path.read_text(encoding="utf-8-sig"))
                self.files()
            except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
                raise DataError(
                    f"{self.path} cannot be read ({error}): delete it, and the archives are unpacked again."
                ) from None

    def has(self, repo: str, archive: str, parts: Sequence[RemoteFile]) -> bool:
        """Whether this version of the archive is unpacked and all its files are there."""
        entry = self._entries.get(f"{repo}/{archive}")
        if entry is None or entry["digest"] != _digest(parts):
            return False
        return all(_is_there(self.folder / name, size) for name, size in entry["files"].items())

    def add(self, repo: str, archive: str, parts: Sequence[RemoteFile], files: dict[str, int]) -> None:
        """Note an archive that is unpacked. `files`: path below the folder -> bytes."""
        self._entries[f"{repo}/{archive}"] = {"digest": _digest(parts), "files": files}
        write_atomically(self.path, json.dumps(self._entries) + "\n")

    def forget(self, repo: str, archive: str, parts: Sequence[RemoteFile]) -> None:
        """Remove the note of an archive that will be unpacked again. If the archive has changed its old files are
        deleted: a new file of the same size would be taken for unpacked."""
        entry = self._entries.pop(f"{repo}/{archive}", None)
        if entry is not None and entry["digest"] != _digest(parts):
            for name in entry["files"]:
                checked_place(self.folder, name).unlink(missing_ok=True)

    def files(self) -> dict[str, int]:
        """All unpacked files, relative to the folder, with their sizes."""
        return {name: int(size) for entry in self._entries.values() for name, size in entry["files"].items()}

    def unclaimed_bytes(self, listed: Collection[str]) -> int:
        """The bytes of files that are neither listed in a repository nor of an unpacked archive: those that an
        interrupted unpacking has written."""
        known = {*self.files(), *listed}
        return sum(
            path.stat().st_size
            for path in self.folder.rglob("*")
            if path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(self.folder).parts)
            and path.relative_to(self.folder).as_posix() not in known
        )


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _digest(parts: Sequence[RemoteFile]) -> str:
    return sha256("\n".join(part.digest for part in parts).encode()).hexdigest()
