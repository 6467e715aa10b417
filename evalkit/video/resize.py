"""How the frames of a video are resized: the size of each, from the size that the video is shown at.

A rule is chosen by the model's settings, travels as JSON to the decoding process, and is part of the frame store's key.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from evalkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class FixedSize:
    """Every frame gets `height` x `width` pixels; the aspect ratio is not kept."""

    height: int
    width: int

    def __post_init__(self) -> None:
        _require_at_least(1, self, "height", "width")

    def size_for(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """(height, width) of each of `frames` frames of a video that is shown at `height` x `width` pixels."""
        return self.height, self.width


@dataclass(frozen=True, slots=True)
class PixelBudget:
    """The aspect ratio is kept as far as sides that are multiples of `multiple_of` allow, and a frame has at most
    `per_frame_max` and at least `per_frame_min` pixels. `total_max` is the budget of all frames together: each frame
    gets its share of it, though never less than `per_frame_min`. The rounding is that of Qwen2-VL's `smart_resize`
    (transformers, models/qwen2_vl): to the nearest multiple, down where that exceeds the maximum, up where it falls
    short of the minimum."""

    per_frame_max: int
    per_frame_min: int = 0
    total_max: int | None = None
    multiple_of: int = 28

    def __post_init__(self) -> None:
        _require_at_least(1, self, "per_frame_max", "multiple_of")
        _require_at_least(0, self, "per_frame_min")
        if self.total_max is not None:
            _require_at_least(1, self, "total_max")
        if self.per_frame_min > self.per_frame_max:
            raise ConfigError(
                f"PixelBudget.per_frame_min is {self.per_frame_min}, more than per_frame_max={self.per_frame_max}."
            )

    def size_for(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """(height, width) of each of `frames` frames of a video that is shown at `height` x `width` pixels."""
        most = float(self.per_frame_max)
        if self.total_max is not None:
            most = max(float(self.per_frame_min), min(most, self.total_max / frames))
        unit = self.multiple_of
        new_height, new_width = (max(unit, round(side / unit) * unit) for side in (height, width))
        if new_height * new_width > most:
            shrink = math.sqrt(height * width / most) if most else math.inf
            new_height, new_width = (max(unit, math.floor(side / shrink / unit) * unit) for side in (height, width))
        elif new_height * new_width < self.per_frame_min:
            grow = math.sqrt(self.per_frame_min / (height * width))
            new_height, new_width = (math.ceil(side * grow / unit) * unit for side in (height, width))
        return new_height, new_width


@dataclass(frozen=True, slots=True)
class LongestSide:
    """The longer side gets `pixels` pixels, the other keeps the aspect ratio (rounded, at least 1). Without `enlarge`
    smaller frames stay as they are."""

    pixels: int
    enlarge: bool = True

    def __post_init__(self) -> None:
        _require_at_least(1, self, "pixels")

    def size_for(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """(height, width) of each of `frames` frames of a video that is shown at `height` x `width` pixels."""
        scale = self.pixels / max(height, width)
        if scale > 1 and not self.enlarge:
            return height, width
        return max(1, round(height * scale)), max(1, round(width * scale))


Resize = FixedSize | PixelBudget | LongestSide

KINDS: dict[str, type[Resize]] = {kind.__name__: kind for kind in (FixedSize, PixelBudget, LongestSide)}


def resize_to_json(resize: Resize | None) -> dict[str, Any] | None:
    """`{"kind": class name, field: value}`; None stays None."""
    return None if resize is None else {"kind": type(resize).__name__, **asdict(resize)}


def resize_from_json(fields: dict[str, Any] | None) -> Resize | None:
    """The inverse of `resize_to_json`."""
    if fields is None:
        return None
    return KINDS[fields["kind"]](**{name: value for name, value in fields.items() if name != "kind"})


def _require_at_least(least: int, resize: Any, *names: str) -> None:
    for name in names:
        value = getattr(resize, name)
        if not isinstance(value, int) or value < least:
            raise ConfigError(
                f"{type(resize).__name__}.{name} is {value!r}; it must be a whole number, at least {least}."
            )
