"""Pictures with known content: solid colours, large text, a moving square. The videos of the miniature benchmarks are
made of them, so that a test with the right pixels can answer every question about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

PALETTE: dict[str, tuple[int, int, int]] = {
    "black": (10, 10, 10),
    "white": (245, 245, 245),
    "gray": (128, 128, 128),
    "red": (220, 30, 30),
    "green": (30, 150, 40),
    "blue": (30, 60, 220),
    "yellow": (245, 225, 40),
    "cyan": (60, 210, 220),
    "orange": (245, 140, 20),
    "purple": (120, 40, 160),
    "pink": (250, 150, 190),
    "brown": (120, 75, 35),
}
"""Twelve colours at least 80 apart in RGB: compression and colour conversion move a solid one by less than ten."""

# The classic 5x7 dot-matrix letters, ASCII 32 to 90: five columns a glyph, the lowest bit on top.
_FONT = bytes.fromhex(
    "0000000000 00005F0000 0007000700 147F147F14 242A7F2A12 2313086462 3649562050 0005030000 001C224100 0041221C00"
    "14083E0814 08083E0808 0050300000 0808080808 0060600000 2010080402 3E5149453E 00427F4000 4261514946 2141454B31"
    "1814127F10 2745454539 3C4A494930 0171090503 3649494936 064949291E 0036360000 0056360000 0814224100 1414141414"
    "0041221408 0201510906 324979413E 7E1111117E 7F49494936 3E41414122 7F4141221C 7F49494941 7F09090901 3E4149497A"
    "7F0808087F 00417F4100 2040413F01 7F08142241 7F40404040 7F020C027F 7F0408107F 3E4141413E 7F09090906 3E4151215E"
    "7F09192946 4649494931 01017F0101 3F4040403F 1F2040201F 3F4038403F 6314081463 0708700807 6151494543"
)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is on screen from `start_s` to `end_s`: a palette colour, optional big text, and optionally a square of
    another palette colour that crosses the picture from left to right meanwhile."""

    start_s: float
    end_s: float
    colour: str
    text: str = ""
    square: str = ""


def text_mask(text: str) -> np.ndarray:
    """bool `[7, 6 * len(text) - 1]`, True where a dot is lit. Letters are upper-cased; ASCII 32 to 90."""
    columns = []
    for glyph in text.upper():
        position = ord(glyph) - 32
        if not 0 <= position < 59:
            raise ValueError(f"The dot-matrix font has no {glyph!r}.")
        columns += [*_FONT[5 * position : 5 * position + 5], 0]
    bits = np.array(columns[:-1], np.uint8)
    return (bits[None] >> np.arange(7, dtype=np.uint8)[:, None] & 1).astype(bool)


@lru_cache(maxsize=256)
def picture(colour: str, text: str, size: tuple[int, int]) -> np.ndarray:
    """uint8 `[height, width, 3]`, read-only: the colour with the text in the centre, as large as fits."""
    height, width = size
    image = np.empty((height, width, 3), np.uint8)
    image[:] = PALETTE[colour]
    if text:
        mask = text_mask(text)
        scale = min(int(0.8 * height) // mask.shape[0], int(0.9 * width) // mask.shape[1])
        if scale < 1:
            raise ValueError(f"{text!r} does not fit into {width}x{height} pixels.")
        mask = mask.repeat(scale, 0).repeat(scale, 1)
        top, left = (height - mask.shape[0]) // 2, (width - mask.shape[1]) // 2
        ink = PALETTE["black" if sum(PALETTE[colour]) > 380 else "white"]
        image[top : top + mask.shape[0], left : left + mask.shape[1]][mask] = ink
    image.setflags(write=False)
    return image


def draw(scene: Scene, time_s: float, size: tuple[int, int]) -> np.ndarray:
    """The scene as it looks `time_s` seconds into the video; uint8 `[height, width, 3]`."""
    image = picture(scene.colour, scene.text, size)
    if not scene.square:
        return image
    height, width = size
    side = min(height, width) // 4
    progress = (time_s - scene.start_s) / (scene.end_s - scene.start_s)
    left, top = round(progress * (width - side)), (height - side) // 2
    image = image.copy()
    image[top : top + side, left : left + side] = PALETTE[scene.square]
    return image


def film(timeline: Sequence[Scene], fps: float, size: tuple[int, int] = (64, 96)) -> Iterator[np.ndarray]:
    """Frames of a timeline, uint8 `[height, width, 3]`; frame i shows the time `i / fps`. Where scenes overlap, the
    last in the list is shown, so a long background may have short flashes. Without a scene the picture is black."""
    end_s = max(scene.end_s for scene in timeline)
    for i in range(round(end_s * fps)):
        time_s = i / fps + 1e-9
        covering = [scene for scene in timeline if scene.start_s <= time_s < scene.end_s]
        yield draw(covering[-1] if covering else Scene(0, end_s, "black"), time_s, size)


def nearest_colour(pixels: np.ndarray) -> str:
    """Name of the palette colour nearest to the median of `[..., 3]` RGB pixels."""
    median = np.median(pixels.reshape(-1, 3).astype(int), axis=0)
    return min(PALETTE, key=lambda name: float(np.abs(median - PALETTE[name]).sum()))
