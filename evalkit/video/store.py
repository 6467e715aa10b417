"""Decoded frames on disk, so that a sweep decodes each video once.

An entry holds the frames of one video for one request, as raw bytes: lossless, whatever the backend gave. Its name is a
hash of everything that could change a frame: the file (size, modification time, first and last bytes), the part and
frames asked for, the size and filter, the backend and its version. Entries appear whole or not at all, so any number of
processes may share a store; one that was damaged since is noticed, dropped and made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
from filelock import FileLock

from evalkit.errors import ConfigError
from evalkit.types import FramePlan

from .identity import ends_sha256
from .wire import plan_from

MAGIC = b"evalkit frames 1\n"
SIZES = struct.Struct("<II")  # length of the header, checksum of the header
CHECKSUM = struct.Struct("<I")
PACKAGES = {"pyav": "av", "decord": "decord"}
SAMPLE_BYTES = 1 << 20
STALE_S = 24 * 3600.0

log = logging.getLogger(__name__)


class DamagedEntry(Exception):
    """Stored frames that are not what was stored."""


class FrameStore:
    """Entries below `folder`, at most `limit_bytes` of them; those unused for longest go first. Raises ConfigError."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.limit_bytes = limit_bytes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise ConfigError(
                f"video.cache={folder} cannot be written ({error.strerror}); name a folder that can, or leave it out."
            ) from error
        self._lock = FileLock(folder / ".lock")
        with self._lock:
            for left in folder.glob("*.part"):
                if time.time() - left.stat().st_mtime > STALE_S:
                    left.unlink(missing_ok=True)

    def key(self, job: Mapping[str, Any]) -> str | None:
        """The name of the entry for a decoding job; None for what is not kept: folders of pictures, missing files."""
        composite = job.get("composite") or {}
        files = [Path(f) for f in (job["path"], composite.get("image")) if f]
        if not all(f.is_file() for f in files):
            return None
        asked = {k: v for k, v in job.items() if k not in ("path", "threads")}
        parts = {
            "asked": {**asked, "composite": {**composite, "image": None}},
            "backend": version(PACKAGES[job["backend"]]),
            "pillow": version("pillow"),
            "files": [identity(f) for f in files],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]

    def open(self, key: str) -> StoredFrames | None:
        """The entry, now the most recently used one; None if there is none that is whole."""
        path = self.path(key)
        try:
            entry = StoredFrames(path.open("rb"))
            os.utime(path)
        except FileNotFoundError:
            return None
        except DamagedEntry:
            self.drop(key)
            return None
        return entry

    def drop(self, key: str) -> None:
        log.warning("The stored frames %s were damaged; they are decoded again.", self.path(key))
        self.path(key).unlink(missing_ok=True)

    def entry(self, key: str, plan: FramePlan, decoder: str) -> NewEntry:
        return NewEntry(self, key, plan, decoder)

    def path(self, key: str) -> Path:
        return self.folder / f"{key}.frames"

    def make_room(self) -> None:
        """Delete the entries used longest ago until the rest is within the limit."""
        with self._lock:
            entries = sorted(
                (status.st_mtime_ns, status.st_size, path)
                for path in self.folder.glob("*.frames")
                for status in [path.stat()]
            )
            total = sum(size for _, size, _ in entries)
            for _, size, path in entries:
                if total <= self.limit_bytes:
                    return
                path.unlink(missing_ok=True)
                total -= size


def identity(path: Path) -> list[Any]:
    """Size, modification time, and a hash of the first and last MiB."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, ends_sha256(path, SAMPLE_BYTES)]


class StoredFrames:
    """An open entry. Raises DamagedEntry."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        try:
            if file.read(len(MAGIC)) != MAGIC:
                raise DamagedEntry
            length, checksum = SIZES.unpack(file.read(SIZES.size))
            header = file.read(length)
            if zlib.crc32(header) != checksum:
                raise DamagedEntry
            facts = json.loads(header)
            self.decoder: str = facts["decoder"]
            self.plan = plan_from(facts["plan"])
            self._shape = tuple(facts["shape"])
            frame_bytes = CHECKSUM.size + int(np.prod(self._shape))
            if os.fstat(file.fileno()).st_size != file.tell() + frame_bytes * len(self.plan):
                raise DamagedEntry
        except (struct.error, DamagedEntry):
            file.close()
            raise DamagedEntry from None

    def frames(self) -> Iterator[tuple[np.ndarray, int]]:
        """uint8 `[height, width, 3]` in plan order, each with its CRC-32."""
        with self._file as file:
            for _ in range(len(self.plan)):
                (checksum,) = CHECKSUM.unpack(file.read(CHECKSUM.size))
                frame = np.frombuffer(file.read(int(np.prod(self._shape))), np.uint8).reshape(self._shape)
                if zlib.crc32(frame.data) != checksum:
                    raise DamagedEntry
                yield frame, checksum


class NewEntry:
    """An entry in the making. It appears with the last frame of its plan; left before, it leaves nothing."""

    def __init__(self, store: FrameStore, key: str, plan: FramePlan, decoder: str) -> None:
        self._store, self._key, self._plan, self._decoder = store, key, plan, decoder
        self._file: IO[bytes] | None = None
        self._missing = len(plan)

    def add(self, frame: np.ndarray, checksum: int) -> None:
        """The next frame and its CRC-32. A full or failing disk costs the entry, with a warning, never the run."""
        if not self._missing:
            return
        try:
            if self._file is None:
                if frame.nbytes * len(self._plan) > self._store.limit_bytes:
                    self._refuse("is larger than video.cache_gb allows")
                    return
                self._file = tempfile.NamedTemporaryFile(dir=self._store.folder, suffix=".part", delete=False)  # noqa: SIM115
                self._file.write(self._header(frame.shape))
            self._file.write(CHECKSUM.pack(checksum))
            self._file.write(frame.data)
            self._missing -= 1
            if not self._missing:
                self._file.close()
                Path(self._file.name).replace(self._store.path(self._key))
                self._store.make_room()
        except OSError as error:
            self._refuse(f"could not be written ({error.strerror})")

    def _header(self, shape: tuple[int, ...]) -> bytes:
        header = json.dumps({"decoder": self._decoder, "plan": asdict(self._plan), "shape": shape}).encode()
        return MAGIC + SIZES.pack(len(header), zlib.crc32(header)) + header

    def _refuse(self, why: str) -> None:
        self._missing = 0
        self._discard()
        log.warning("An entry of the frame store %s %s; the video is decoded each time.", self._store.folder, why)

    def _discard(self) -> None:
        if self._file is not None:
            Path(self._file.name).unlink(missing_ok=True)
            with suppress(OSError):  # the disk may refuse the last bytes of what is given up anyway
                self._file.close()

    def __enter__(self) -> NewEntry:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._discard()
