"""Writing files of results safely."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from evalkit.errors import RunError


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise RunError for an OSError in the block."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"results cannot be written to {folder} ({error.strerror}). Free disk space, or name another folder: "
            "results=<folder>."
        ) from None


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that readers see the old content or the new one, never a part. Raises OSError."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes 0600, and results are read by other users
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def slug(name: str) -> str:
    """A folder name: letters, digits, dot, dash and underscore; at most 100 characters."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "unnamed"
