"""Text that several modules write in the same way."""

from __future__ import annotations

import math

_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def size(bytes: float) -> str:
    """Bytes for a reader: 512 B, 1.5 GiB, 318 MiB."""
    power = min(int(math.log(bytes, 1024)) if bytes >= 1 else 0, len(_BYTES) - 1)
    scaled = bytes / 1024**power
    return f"{scaled:.0f} {_BYTES[power]}" if scaled >= 100 or power == 0 else f"{scaled:.1f} {_BYTES[power]}"


def first_line(error: BaseException | str, longest: int = 300) -> str:
    """The first line of a message; an error without one is named by its class."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:longest]


def natural_key(label: str) -> tuple[float, str]:
    """Sorts labels by the number in them: "4 frames" before "16 frames"; those without a number last."""
    number = "".join(c for c in label if c.isdigit() or c == ".")
    try:
        return float(number), label
    except ValueError:
        return math.inf, label
