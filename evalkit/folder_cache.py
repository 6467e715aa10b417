"""A folder of entries by key, with a size limit and checksums: decoded frames, prefilled videos.

An entry is one file: MAGIC, digest, size of the payload, payload, metadata as JSON. The digest covers key, payload and
metadata and is checked when the entry is opened, so an entry that was damaged, or has the name of another one,
is never used. Entries are written to a temporary name, synced and renamed: they appear whole or not at all, and any
number of processes may share the folder. Beyond the limit, the least recently used entries are deleted.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

MAGIC = b"evalkit entry 2\n"
PAYLOAD_SIZE = struct.Struct("<Q")
DIGEST_BYTES = 32
PAYLOAD_START = len(MAGIC) + DIGEST_BYTES + PAYLOAD_SIZE.size
BLOCK_BYTES = 1 << 20
STALE_S = 24 * 3600.0
"""Temporary files older than this belong to processes that were killed."""


class DamagedEntry(Exception):
    """The entry is not what was stored under its key. `str(error)` says so for the user."""


@dataclass(frozen=True)
class FolderCache:
    """Entries named `<key><suffix>` in `folder`, together at most `limit_bytes`. Methods raise OSError."""

    folder: Path
    limit_bytes: int
    suffix: str

    def prepare(self) -> None:
        """Make the folder, check that it can be written, and delete what killed processes left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.folder):
            pass
        for left in self.folder.glob("*.part"):
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > STALE_S:
                    left.unlink()

    def path(self, key: str) -> Path:
        return self.folder / f"{key}{self.suffix}"

    def open(self, key: str) -> Entry | None:
        """The entry, now the most recently used one; None if there is none. One whose digest does not fit is deleted.
        Raises DamagedEntry."""
        path = self.path(key)
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return None
        try:
            entry = Entry(file, key)
            os.utime(path)
            return entry
        except DamagedEntry:
            file.close()
            path.unlink(missing_ok=True)
            raise DamagedEntry(f"{path} was damaged or is another entry; it was deleted and is made anew") from None
        except FileNotFoundError:  # evicted by another process since; the open file stays readable
            return entry
        except BaseException:
            file.close()
            raise

    def create(self, key: str) -> NewEntry:
        """A new entry, to be used as a context manager; it appears with `commit`."""
        return NewEntry(self, key)

    def evict(self, newest: Path) -> None:
        """Delete the least recently used entries beyond the limit, but never `newest`."""
        entries = []
        for path in self.folder.glob(f"*{self.suffix}"):
            with suppress(FileNotFoundError):  # other processes evict too
                status = path.stat()
                entries.append((path != newest, -status.st_mtime_ns, status.st_size, path))
        total = 0
        for may_go, _, size, path in sorted(entries):
            total += size
            if may_go and total > self.limit_bytes:
                path.unlink(missing_ok=True)


class Entry:
    """An entry whose digest fits: `metadata`, and the payload, which is read once from its start."""

    def __init__(self, file: IO[bytes], key: str) -> None:
        """Reads all of `file`. Raises DamagedEntry."""
        self._file = file
        if file.read(len(MAGIC)) != MAGIC:
            raise DamagedEntry
        digest, size = file.read(DIGEST_BYTES), file.read(PAYLOAD_SIZE.size)
        if len(size) < PAYLOAD_SIZE.size:
            raise DamagedEntry
        (self.payload_bytes,) = PAYLOAD_SIZE.unpack(size)
        found = _new_digest(key)
        while block := file.read(BLOCK_BYTES):
            found.update(block)
        found.update(size)
        if found.digest() != digest:
            raise DamagedEntry
        file.seek(PAYLOAD_START + self.payload_bytes)
        self.metadata: dict[str, Any] = json.loads(file.read())
        file.seek(PAYLOAD_START)

    def read(self, size: int) -> bytearray:
        """The next `size` bytes of the payload."""
        data = bytearray(size)
        view = memoryview(data)
        done = 0
        # IO[bytes] has no readinto; a file opened with "rb" does.
        while done < size and (got := self._file.readinto(view[done:])):  # type: ignore[attr-defined]
            done += got
        assert done == size, "the payload is shorter than its metadata says"
        return data

    def __enter__(self) -> Entry:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()


class NewEntry:
    """An entry that is being written. Without `commit` it leaves nothing behind."""

    def __init__(self, cache: FolderCache, key: str) -> None:
        self._cache, self._key = cache, key
        self._digest = _new_digest(key)
        # No `with` here: the file stays open until `commit` or `discard` closes it.
        self._file: IO[bytes] = tempfile.NamedTemporaryFile(dir=cache.folder, suffix=".part", delete=False)  # noqa: SIM115
        self._payload_bytes = 0
        try:
            self._file.write(MAGIC + bytes(DIGEST_BYTES + PAYLOAD_SIZE.size))
        except OSError:
            self.discard()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes of the payload."""
        self._file.write(data)
        self._digest.update(data)
        self._payload_bytes += len(data) if isinstance(data, bytes) else data.nbytes

    def commit(self, metadata: Mapping[str, Any]) -> None:
        """Write the metadata, sync, give the entry its name, and evict others."""
        text, size = json.dumps(metadata).encode(), PAYLOAD_SIZE.pack(self._payload_bytes)
        self._file.write(text)
        self._digest.update(text)
        self._digest.update(size)
        self._file.seek(len(MAGIC))
        self._file.write(self._digest.digest() + size)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        path = self._cache.path(self._key)
        Path(self._file.name).replace(path)
        _sync_folder(self._cache.folder)
        self._cache.evict(path)

    def discard(self) -> None:
        """Delete what was written, unless it was committed."""
        Path(self._file.name).unlink(missing_ok=True)
        with suppress(OSError):  # a full disk may refuse the buffered bytes, which are discarded anyway
            self._file.close()

    def __enter__(self) -> NewEntry:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.discard()


def _new_digest(key: str) -> hashlib.blake2b:
    return hashlib.blake2b(key.encode(), digest_size=DIGEST_BYTES)


def _sync_folder(folder: Path) -> None:
    """Make a renaming durable, on systems where a folder can be opened."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
