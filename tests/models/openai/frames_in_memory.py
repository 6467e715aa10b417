"""A frame stream without a file, and pictures that come back out of a request."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evalkit.types import Context, Cue, FramePlan, Video


class Frames:
    """`count` frames of `size` (height, width); frame i has the brightness 20 * i everywhere, up to 255."""

    decode_seconds, decoder = 0.0, "test"

    def __init__(self, count: int, size: tuple[int, int] = (36, 64)) -> None:
        self.size = size
        self.plan = FramePlan(
            tuple(range(0, 10 * count, 10)), tuple(map(float, range(count))), 10.0, 10 * count, "uniform"
        )

    def batches(self, size: int) -> Iterator[np.ndarray]:
        frames = [np.full((*self.size, 3), min(20 * i, 255), np.uint8) for i in range(len(self.plan))]
        for first in range(0, len(frames), size):
            yield np.stack(frames[first : first + size])

    def close(self) -> None:
        pass


def context(count: int = 3, cues: Sequence[Cue] = (), system: str | None = None, **more: Any) -> Context:
    return Context(Video("v", Path("v.mp4")), Frames(count, **more), system, tuple(cues))


def picture(encoded: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def images(request: dict[str, Any]) -> list[Image.Image]:
    """The image parts of the user's message."""
    parts = next(message["content"] for message in request["messages"] if message["role"] == "user")
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [picture(url.removeprefix("data:image/jpeg;base64,")) for url in urls]


def brightness(image: Image.Image) -> float:
    return float(np.asarray(image).mean())
