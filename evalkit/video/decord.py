"""decord, the decoder of the published evaluations, for results that must be read as theirs were.

decord 0.6.0 is wrong in known cases, which tests/video/test_decoders.py asserts file by file: it returns other frames
for H.264 and HEVC with open groups or intra refresh, for AVI with B-frames and for transport streams; it returns frames
before the start of an edit list or a stream copy; it does not open AV1, GIF and raw streams; and it converts interlaced
and 10-bit video to RGB in another way.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from evalkit.errors import ConfigError, VideoError
from evalkit.text import first_line

from .index import Progress, build_index
from .info import FETCH_AGAIN, BackendFailed, VideoInfo, ignore_progress
from .settings import DECORD_MISSING

RIGHT_CODECS = ("h264", "hevc", "vp8", "vp9")


class DecordDecoder:
    """One open video. decord reads what is left of a broken file as if it were complete, so the packets are checked
    first, as for PyAV; frame count and frame rate are decord's own. Chosen by `video.backend`, it reads any file;
    as `stand_in` for a decoder that failed, it reads only files for which its frames are right."""

    def __init__(
        self, path: Path, threads: int = 2, progress: Progress = ignore_progress, stand_in: bool = False
    ) -> None:
        try:
            import decord
        except ImportError as error:
            raise ConfigError(DECORD_MISSING) from error
        index = build_index(path, progress)
        if index.damaged:
            raise VideoError(f"{path} is damaged: some of its frames cannot be decoded; {FETCH_AGAIN}.", kind="damaged")
        known = index.info
        if stand_in and not (index.plain and known.codec in RIGHT_CODECS):
            raise BackendFailed("it is known to show other frames of such a file")
        self.remarks = list(index.remarks)
        self.name = f"decord {decord.__version__}"
        decord.logging.set_level(decord.logging.QUIET)
        try:
            self._reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=threads)
            count, native_fps = len(self._reader), float(self._reader.get_avg_fps())
        except (decord.DECORDError, RuntimeError) as error:
            raise BackendFailed(first_line(error)) from error
        self._failure = decord.DECORDError
        self.info = VideoInfo(
            count, native_fps, count / native_fps if native_fps else 0.0, known.width, known.height, known.codec,
            known.rotation,
        )  # fmt: skip

    def frames(self, indices: list[int]) -> Iterator[np.ndarray]:
        """uint8 `[height, width, 3]` RGB of each index; one `get_batch` each, so that one frame is held at a time."""
        try:
            for i in indices:
                yield self._reader.get_batch([i]).asnumpy()[0]
        except (self._failure, RuntimeError) as error:
            raise BackendFailed(first_line(error)) from error

    def close(self) -> None:
        del self._reader
