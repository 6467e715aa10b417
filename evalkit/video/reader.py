"""The face of video decoding: `FrameReader`. Frames of the next videos are decoded in processes of their own while the
model works on this one; a decoder that crashes or hangs costs at most its video."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from evalkit.errors import VideoError
from evalkit.types import FrameRequest, FrameStream, Video

from .fill import Filler
from .process import WorkerPool
from .sampling import check
from .settings import VideoSettings
from .store import FrameStore
from .stream import QueuedStream

Job = tuple[Video, FrameRequest, QueuedStream]


class FrameReader:
    """Reads videos as `settings` say. Raises ConfigError. Close it, or use it as a context manager."""

    def __init__(self, settings: VideoSettings | None = None, in_flight: int = 1) -> None:
        self.settings = settings or VideoSettings()
        self.in_flight = in_flight
        self.settings.check()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = self.settings.workers or max(1, min(4, cores // 2))
        self._pool = WorkerPool()
        cache = self.settings.cache
        store = FrameStore(Path(cache), int(self.settings.cache_gb * 1e9)) if cache else None
        self._filler = Filler(self.settings, self._pool, store, threads=max(1, min(2, cores // self.workers - 1)))
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._closed = False
        for _ in range(self.workers):
            threading.Thread(target=self._work, name="video decoding", daemon=True).start()

    def open(self, video: Video, request: FrameRequest) -> FrameStream:
        """Frames of one video, decoding from now on. Raises VideoError as soon as it is known."""
        check(request)
        stream = self._stream()
        threading.Thread(target=self._filler.fill, args=(video, request, stream), daemon=True).start()
        return stream.opened()

    def open_ahead(self, wanted: Iterable[tuple[Video, FrameRequest]]) -> Iterator[FrameStream | VideoError]:
        """The videos in order, each as its stream or as the error that it costs, the next ones decoding meanwhile. A
        stream is closed when the next is asked for."""
        coming = iter(wanted)
        ahead: deque[QueuedStream] = deque()
        exhausted = False
        try:
            while True:
                while not exhausted and len(ahead) <= self.workers:
                    pair = next(coming, None)
                    if pair is None:
                        exhausted = True
                        break
                    check(pair[1])
                    ahead.append(self._stream())
                    self._jobs.put((*pair, ahead[-1]))
                if not ahead:
                    return
                try:
                    yield ahead[0].opened()
                except VideoError as error:
                    yield error
                stream = ahead.popleft()
                if self.in_flight == 1:
                    stream.close()
        finally:
            for stream in ahead:
                stream.close()

    def close(self) -> None:
        """End the decoding processes; streams that are not read to their end fail."""
        self._closed = True
        self._pool.close()
        for _ in range(self.workers):
            self._jobs.put(None)

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _stream(self) -> QueuedStream:
        assert not self._closed, "the reader is closed"
        return QueuedStream(self.settings.queue_mb * 2**20 // (self.workers + self.in_flight))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._filler.fill(*job)
