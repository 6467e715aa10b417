"""decord, the decoder of the published evaluations, for numbers that must be read the way they were.

Known to be wrong (decord 0.6.0, asserted file by file in tests/video/test_decoders.py): other frames on H.264 and HEVC
with open groups or piecewise refresh, on MPEG-4 with B-frames and on transport streams; frames before the start of an
edit list or a stream copy shown; AV1, GIF and bare streams not opened; interlaced and 10-bit video converted to RGB in
another way.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evalkit.errors import ConfigError

from .index import Progress, build_index
from .info import BackendFailed, VideoInfo, silent
from .settings import DECORD_MISSING

READ_RIGHTLY = ("h264", "hevc", "vp8", "vp9")


class DecordDecoder:
    """One open video. decord serves what is left of a broken file as if it were whole, so the packets are counted
    first, as for PyAV; frame count and frame rate are decord's own. Asked for by name it reads any file as it does;
    `standing_in` for a decoder that failed, only those it is known to read rightly."""

    def __init__(self, path: Path, threads: int = 2, progress: Progress = silent, standing_in: bool = False) -> None:
        try:
            import decord
        except ImportError as error:
            raise ConfigError(DECORD_MISSING) from error
        index = build_index(path, progress)
        known = index.info
        if standing_in and not (index.plain and known.codec in READ_RIGHTLY):
            raise BackendFailed("it is known to show other frames of such a file")
        self.name = f"decord {decord.__version__}"
        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
            count, native_fps = len(self._reader), float(self._reader.get_avg_fps())
        except (decord.DECORDError, RuntimeError) as error:
            raise BackendFailed(_first_line(error)) from error
        self._failure = decord.DECORDError
        self.info = VideoInfo(
            count, native_fps, count / native_fps if native_fps else 0.0, known.width, known.height, known.codec,
            known.rotation,
        )  # fmt: skip

    def frames(self, indices: list[int]) -> Iterator[np.ndarray]:
        """uint8 `[height, width, 3]` RGB of each index, one `get_batch` each, so one frame is held at a time."""
        try:
            for i in indices:
                yield self._reader.get_batch([i]).asnumpy()[0]
        except (self._failure, RuntimeError) as error:
            raise BackendFailed(_first_line(error)) from error

    def close(self) -> None:
        del self._reader


def _first_line(error: Exception) -> str:
    """decord's messages carry a C++ stack of dozens of lines."""
    return str(error).strip().splitlines()[0][:200]
