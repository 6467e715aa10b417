"""Write video files with PyAV's encoders: no system ffmpeg is needed, and equal frames give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.codec.context import Flags
from av.video.stream import VideoStream

from evalkit.errors import DataError

FAST: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "20"},
    "libx265": {"preset": "ultrafast", "x265-params": "pools=none:frame-threads=1:log-level=none"},
}


def write_video(
    path: Path | str,
    frames: Iterable[np.ndarray],
    fps: float | Fraction,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    pix_fmt: str = "yuv420p",
) -> int:
    """Encode RGB frames (uint8 `[height, width, 3]`, even sides) to `path`; its suffix names the container. Returns how
    many were written. One thread and no creation time, so the bytes depend only on frames and encoder version.
    """
    path = Path(path)
    rate = Fraction(fps).limit_denominator(1001)
    muxer = {"movflags": "+faststart"} if path.suffix in (".mp4", ".mov") else {}
    count = 0
    with av.open(str(path), "w", options={"fflags": "+bitexact", **muxer}) as container:
        stream: VideoStream | None = None
        for image in frames:
            if stream is None:
                encoder_options = dict(FAST.get(codec, {}) if options is None else options)
                stream = cast(VideoStream, container.add_stream(codec, rate=rate, options=encoder_options))
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.codec_context.thread_count = 1
                stream.codec_context.flags |= Flags.bitexact
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = count, 1 / rate
            container.mux(stream.encode(frame))
            count += 1
        if stream is None:
            raise DataError(f"{path} was not written: there are no frames to encode.")
        container.mux(stream.encode(None))
    return count
