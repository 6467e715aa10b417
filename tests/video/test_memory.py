"""Host memory while a long video waits for a slow model."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from evalkit.types import FrameRequest, Video
from evalkit.video.reader import FrameReader
from evalkit.video.settings import VideoSettings

FRAMES, HEIGHT, WIDTH = 3000, 360, 640
FRAME_MB = HEIGHT * WIDTH * 3 / 2**20  # 0.66; all of them are 1,978 MB
QUEUE_MB = 32
BOUND_MB = 192
"""Queue, a batch of the consumer, one decoder's own pictures in flight, and room for the allocator."""


@pytest.fixture(scope="module")
def long_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"g": "12"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        pictures = [np.full((HEIGHT, WIDTH, 3), 20 * i, np.uint8) for i in range(10)]
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(pictures[i // 50 % 10], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


class Watch:
    """The peak resident memory of this process and its children together, sampled every 10 ms."""

    def __init__(self) -> None:
        self.peak_mb, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    @staticmethod
    def now_mb() -> float:
        total = 0
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total / 2**20

    def _look(self) -> None:
        while not self._stop.wait(0.01):
            self.peak_mb = max(self.peak_mb, self.now_mb())

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def reader() -> Iterator[FrameReader]:
    with FrameReader(VideoSettings(workers=2, queue_mb=QUEUE_MB)) as reader:
        yield reader


def test_a_long_video_and_a_slow_model_stay_within_the_queue(long_video: Path, reader: FrameReader) -> None:
    request = FrameRequest("uniform", FRAMES)
    for stream in [reader.open(Video("warm", long_video), FrameRequest("uniform", 64)) for _ in range(2)]:
        assert sum(len(batch) for batch in stream.batches(8)) == 64
    before, seen = Watch.now_mb(), 0
    with Watch() as watch:
        streams = reader.open_ahead((Video(f"v{i}", long_video), request) for i in range(3))
        stream = next(streams)
        for batch in stream.batches(32):  # type: ignore[union-attr]
            if seen < 320:
                time.sleep(0.2)  # far slower than decoding: what is decoded piles up, or waits
            seen += len(batch)
        streams.close()  # type: ignore[attr-defined]
    assert seen == FRAMES
    assert FRAMES * FRAME_MB > 10 * BOUND_MB
    assert watch.peak_mb - before < BOUND_MB
