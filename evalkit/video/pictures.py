"""A folder of numbered pictures as a video: how some benchmarks ship what they may not ship as a video file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError

from evalkit.errors import VideoError

from .info import FETCH_AGAIN, VideoInfo

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_NUMBER = re.compile(r"\d+")


class PictureFolder:
    """The pictures of a folder, in the order of their numbers, `fps` of them a second."""

    name = f"pillow {PIL.__version__}"

    def __init__(self, path: Path, fps: float | None) -> None:
        self.pictures = sorted((p for p in path.iterdir() if p.suffix.lower() in SUFFIXES), key=_by_number)
        if not self.pictures:
            raise VideoError(f"{path} is a folder without pictures ({', '.join(SUFFIXES)}); {FETCH_AGAIN}.", "empty")
        if not fps or fps <= 0:
            raise VideoError(f"{path} is a folder of pictures, and nothing says how many of them make a second.")
        height, width = read_picture(self.pictures[0]).shape[:2]
        count = len(self.pictures)
        self.remarks: list[str] = []
        self.info = VideoInfo(count, fps, count / fps, width, height, self.pictures[0].suffix[1:].lower(), 0)

    def frames(self, indices: list[int]) -> Iterator[np.ndarray]:
        """uint8 `[height, width, 3]` RGB of each index. Raises VideoError (damaged)."""
        for i in indices:
            yield read_picture(self.pictures[i])

    def close(self) -> None:
        """No file is open."""


def read_picture(path: Path) -> np.ndarray:
    """uint8 `[height, width, 3]` RGB. Raises VideoError (missing or damaged)."""
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"))
    except FileNotFoundError:
        raise VideoError(f"{path} does not exist; fetch the data or check its folder.", "missing") from None
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError) as error:
        raise VideoError(f"{path} is not a complete picture ({error}); {FETCH_AGAIN}.", "damaged") from None


def _by_number(picture: Path) -> tuple[list[int], str]:
    return [int(number) for number in _NUMBER.findall(picture.stem)], picture.name
