"""`FrameReader`: decodes videos in processes of their own, ahead of the model, so that a decoder that crashes or hangs
costs at most its video."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType

from evalkit.errors import VideoError
from evalkit.types import FrameRequest, FrameStream, Video

from .frame_source import FrameSource
from .process import ProcessPool
from .sampling import check, trust
from .settings import VideoSettings
from .store import FrameStore
from .stream import QueuedStream


class FrameReader:
    """Reads videos as `settings` say. Close it, or use it as a context manager. Raises ConfigError.

    in_flight: how many videos the caller reads at the same time. The memory `settings.queue_mb` is divided among these
        and the videos that are decoded ahead.
    plugins: packages whose sampling rules a request may name.
    """

    def __init__(self, settings: VideoSettings | None = None, in_flight: int = 1, plugins: Sequence[str] = ()) -> None:
        assert in_flight >= 1
        self.settings = settings or VideoSettings()
        self.settings.check()
        trust(plugins)
        self.in_flight = in_flight
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = self.settings.workers or max(1, min(4, cores // 2))
        self._pool = ProcessPool()
        cache = self.settings.cache
        store = FrameStore(Path(cache), int(self.settings.cache_gb * 1e9)) if cache else None
        self._source = FrameSource(self.settings, self._pool, store, threads=max(1, min(2, cores // self.workers - 1)))
        self._waiting: SimpleQueue[tuple[Video, FrameRequest, QueuedStream] | None] = SimpleQueue()
        self._closed = False
        # A stream whose consumer pauses keeps its decoding process, so a few more than one for each video read ahead.
        self._threads = self.workers + min(in_flight - 1, cores)
        for _ in range(self._threads):
            threading.Thread(target=self._fill_waiting, name="video decoding", daemon=True).start()

    def open(self, video: Video, request: FrameRequest) -> FrameStream:
        """Frames of one video, decoding from now on. May be called from several threads, for up to `in_flight` videos
        at a time. Raises VideoError as soon as it is known."""
        check(request)
        stream = self._stream()
        threading.Thread(target=self._source.fill, args=(video, request, stream), daemon=True).start()
        return stream.wait_for_plan()

    def open_ahead(self, wanted: Iterable[tuple[Video, FrameRequest]]) -> Iterator[FrameStream | VideoError]:
        """The videos in order, each as its stream or as the error that it costs, while the next ones are decoded.

        With `in_flight=1`, a stream is closed when the next is asked for. Otherwise the consumer closes each stream,
        must not hold more than `in_flight` open ones when it asks for the next, and reads each in a thread of its own:
        at most `workers` and one a core are decoded at a time. The iterator itself is for one thread.
        """
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
                    self._waiting.put((*pair, ahead[-1]))
                if not ahead:
                    return
                opened: FrameStream | VideoError
                try:
                    opened = ahead[0].wait_for_plan()
                except VideoError as error:
                    opened = error
                if self.in_flight > 1:
                    ahead.popleft()
                    yield opened
                else:
                    yield opened
                    ahead.popleft().close()
        finally:
            for stream in ahead:
                stream.close()

    def close(self) -> None:
        """End the decoding processes; streams that are not read to their end fail."""
        self._closed = True
        self._pool.close()
        for _ in range(self._threads):
            self._waiting.put(None)

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _stream(self) -> QueuedStream:
        assert not self._closed, "the reader is closed"
        return QueuedStream(self.settings.queue_mb * 2**20 // (self.workers + self.in_flight))

    def _fill_waiting(self) -> None:
        while (next_one := self._waiting.get()) is not None:
            self._source.fill(*next_one)
