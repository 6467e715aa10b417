"""Write a folder of generated files once, however many processes ask for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def made_once(place: Path, write: Callable[[Path], None]) -> Path:
    """`place`, filled by `write(<unfinished folder>)` where it is not there yet. It appears whole or not at all."""
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{place.name}-", dir=place.parent))
        try:
            write(unfinished)
            unfinished.rename(place)
        except OSError:
            if not place.is_dir():  # otherwise another process was faster
                raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return place
