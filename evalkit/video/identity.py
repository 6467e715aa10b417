"""Distinguish a file from another one under the same name, without reading it whole."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

ENDS_BYTES = 1 << 16


def ends_sha256(path: Path, length: int = ENDS_BYTES) -> str:
    """Hash of the first and the last `length` bytes: where containers keep their indices."""
    digest = sha256()
    with path.open("rb") as file:
        digest.update(file.read(length))
        file.seek(max(0, path.stat().st_size - length))
        digest.update(file.read(length))
    return digest.hexdigest()


def file_state(path: Path) -> list[Any] | None:
    """What changes when a file is written or replaced: modification time, inode, and `identity`. None for what is
    neither a file nor a folder (a pipe would be waited for)."""
    if not (path.is_file() or path.is_dir()):
        return None
    status = path.stat()
    return [status.st_mtime_ns, status.st_ino, identity(path)]


def identity(path: Path) -> dict[str, Any] | None:
    """`{bytes, ends_sha256}` of a file; of a folder of pictures, the hash is of their names and sizes. None where
    nothing can be read."""
    try:
        if not path.is_dir():
            return {"bytes": path.stat().st_size, "ends_sha256": ends_sha256(path)}
        sizes = {file.name: file.stat().st_size for file in sorted(path.iterdir())}
    except OSError:
        return None
    listing = "".join(f"{name}\0{size}\n" for name, size in sizes.items())
    return {"bytes": sum(sizes.values()), "ends_sha256": sha256(listing.encode()).hexdigest()}
