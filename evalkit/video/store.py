"""Decoded frames on disk, so that a sweep decodes each video once.

An entry of the folder cache holds the frames of one video for one request as raw bytes. Its key is a hash of everything
that could change a frame: the file (size, modification time, first and last bytes), the part and frames asked for, the
code of the sampling rule, size and filter, backend and its version.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from evalkit.errors import ConfigError
from evalkit.folder_cache import Entry, FolderCache, NewEntry
from evalkit.types import FramePlan

from .identity import ends_sha256
from .messages import plan_from_json
from .sampling import rule_source

PACKAGES = {"pyav": "av", "decord": "decord"}
SAMPLE_BYTES = 1 << 20

log = logging.getLogger(__name__)


class FrameStore:
    """Entries in `folder`, together at most `limit_bytes`. Raises ConfigError where it cannot be written."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.cache = FolderCache(folder, limit_bytes, ".frames")
        try:
            self.cache.prepare()
        except OSError as error:
            raise ConfigError(
                f"video.cache={folder} cannot be written ({error.strerror}); name a folder that can, or leave it out."
            ) from error

    def key(self, job: Mapping[str, Any]) -> str | None:
        """The key of the entry for a decoding job; None for what is not stored: folders of pictures, missing files."""
        composite = job.get("composite") or {}
        files = [Path(f) for f in (job["path"], composite.get("image")) if f]
        if not all(f.is_file() for f in files):
            return None
        asked = {k: v for k, v in job.items() if k not in ("path", "threads", "plugins")}
        rule = composite.get("rule") or job["request"]["rule"]
        parts = {
            "asked": {**asked, "composite": {**composite, "image": None}},
            "rule": hashlib.sha256(rule_source(rule).read_bytes()).hexdigest(),
            "backend": version(PACKAGES[job["backend"]]),
            "pillow": version("pillow"),
            "files": [file_identity(f) for f in files],
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]

    def open(self, key: str) -> StoredFrames | None:
        """The stored frames, or None. Raises DamagedEntry (the entry was deleted) and OSError."""
        entry = self.cache.open(key)
        return None if entry is None else StoredFrames(entry)

    def entry(self, key: str, plan: FramePlan, decoder: str) -> NewFrames:
        """An entry to be filled with the frames of `plan`; a context manager."""
        return NewFrames(self.cache, key, plan, decoder)


def file_identity(path: Path) -> list[Any]:
    """Size, modification time, and a hash of the first and last MiB."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, ends_sha256(path, SAMPLE_BYTES)]


class StoredFrames:
    """The frames of an entry, with plan, decoder and remarks as they were."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self.plan = plan_from_json(entry.metadata["plan"])
        self.decoder: str = entry.metadata["decoder"]
        self.remarks: tuple[str, ...] = tuple(entry.metadata["remarks"])
        self._shape: tuple[int, int, int] = tuple(entry.metadata["shape"])

    def frames(self) -> Iterator[np.ndarray]:
        """uint8 `[height, width, 3]` in plan order."""
        for _ in range(len(self.plan)):
            yield np.frombuffer(self._entry.read(int(np.prod(self._shape))), np.uint8).reshape(self._shape)

    def __enter__(self) -> StoredFrames:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._entry.__exit__(kind, value, at)


class NewFrames:
    """An entry that is being filled. A full or failing disk costs the entry, with a warning, never the run."""

    def __init__(self, cache: FolderCache, key: str, plan: FramePlan, decoder: str) -> None:
        self._cache, self._key, self._plan, self._decoder = cache, key, plan, decoder
        self._entry: NewEntry | None = None
        self._shape: tuple[int, ...] = ()
        self._refused = False

    def add(self, frame: np.ndarray) -> None:
        """The next frame, uint8 `[height, width, 3]`."""
        if self._refused:
            return
        try:
            if self._entry is None:
                if frame.nbytes * len(self._plan) > self._cache.limit_bytes:
                    self._refuse("is larger than video.cache_gb allows")
                    return
                self._entry, self._shape = self._cache.create(self._key), frame.shape
            self._entry.write(frame.data)
        except OSError as error:
            self._refuse(f"could not be written ({error.strerror})")

    def commit(self, remarks: tuple[str, ...]) -> None:
        """Make the entry appear, once all frames were added."""
        if self._entry is None or self._refused:
            return
        facts = {"decoder": self._decoder, "plan": asdict(self._plan), "shape": self._shape, "remarks": remarks}
        try:
            self._entry.commit(facts)
        except OSError as error:
            self._refuse(f"could not be written ({error.strerror})")

    def _refuse(self, why: str) -> None:
        self._refused = True
        if self._entry is not None:
            self._entry.discard()
        log.warning("An entry of the frame store %s %s; the video is decoded each time.", self._cache.folder, why)

    def __enter__(self) -> NewFrames:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if self._entry is not None:
            self._entry.discard()
