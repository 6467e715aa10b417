"""The face of video decoding: `FrameReader`. Frames of the next videos are decoded in processes of their own while the
model works on this one; a decoder that crashes or hangs costs at most its video."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from evalkit.errors import VideoError
from evalkit.types import FramePlan, FrameRequest, FrameStream, Splice, Video

from .info import BackendFailed
from .process import Worker
from .sampling import check
from .settings import BACKENDS, VideoSettings, decord_installed
from .stream import Closed, QueuedStream

Job = tuple[Video, FrameRequest, QueuedStream]


class FrameReader:
    """Reads videos as `settings` say. Raises ConfigError. Close it, or use it as a context manager."""

    def __init__(self, settings: VideoSettings | None = None) -> None:
        self.settings = settings or VideoSettings()
        self.settings.check()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = self.settings.workers or max(1, min(4, cores // 2))
        self._threads = max(1, min(2, cores // self.workers))
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._idle: list[Worker] = []
        self._busy: dict[QueuedStream, Worker] = {}
        self._lock = threading.Lock()
        self._closed = False
        for _ in range(self.workers):
            threading.Thread(target=self._work, name="video decoding", daemon=True).start()

    def open(self, video: Video, request: FrameRequest) -> FrameStream:
        """Frames of one video, decoding from now on. Raises VideoError as soon as it is known."""
        check(request)
        stream = self._stream()
        threading.Thread(target=self._read, args=(video, request, stream), daemon=True).start()
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
                ahead.popleft().close()
        finally:
            for stream in ahead:
                stream.close()

    def close(self) -> None:
        """End the decoding processes."""
        with self._lock:
            self._closed = True
            streams, idle, self._idle = list(self._busy), self._idle, []
        for stream in streams:
            stream.close()
        for worker in idle:
            worker.end()
        for _ in range(self.workers):
            self._jobs.put(None)

    def __enter__(self) -> FrameReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _stream(self) -> QueuedStream:
        assert not self._closed, "the reader is closed"
        return QueuedStream(self.settings.queue_mb * 2**20 // (self.workers + 1))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._read(*job)

    def _read(self, video: Video, request: FrameRequest, stream: QueuedStream) -> None:
        """Fill `stream`, with the other backend where the first one fails."""
        try:
            first = self.settings.backend
            other = next(b for b in BACKENDS if b != first)
            try:
                self._decode(first, video, request, stream)
            except BackendFailed as failure:
                if other == "decord" and not decord_installed():
                    raise _given_up(video, f"{first} failed: {failure}", failure) from failure
                try:
                    self._decode(other, video, request, stream, f" ({first} failed: {failure})")
                except BackendFailed as second:
                    both = f"{first} failed: {failure}; {other} failed: {second}"
                    raise _given_up(video, both, failure) from second
            stream.end()
        except Closed:
            stream.end()
        except BaseException as error:
            stream.end(error)

    def _decode(self, backend: str, video: Video, request: FrameRequest, stream: QueuedStream, after: str = "") -> None:
        """Have one worker decode the video. Raises VideoError (final), BackendFailed (try the other) or Closed."""
        if stream.done:
            raise Closed
        worker = self._take(stream)
        whole = False
        try:
            worker.start(self._job(backend, video, request))
            position = 0
            while True:
                message, frame = worker.receive(self.settings.timeout_s)
                if frame is not None:
                    if not stream.put(position, frame, message["seconds"]):
                        raise VideoError(_disagree(video, f"frame {stream.plan.indices[position]}", after), "damaged")
                    position += 1
                elif message["type"] == "plan":
                    plan = FramePlan(
                        tuple(message["indices"]),
                        tuple(message["times_s"]),
                        message["native_fps"],
                        message["frame_count"],
                        message["rule"],
                    )
                    if not stream.promise(plan, message["decoder"] + after, message["seconds"]):
                        raise VideoError(_disagree(video, "which frames it has", after), "damaged")
                elif message["type"] == "error":
                    whole = True
                    if message["final"]:
                        raise VideoError(message["message"], message["kind"])
                    raise BackendFailed(message["message"])
                elif message["type"] == "end":
                    whole = True
                    return
        finally:
            self._give_back(worker, stream, whole)

    def _job(self, backend: str, video: Video, request: FrameRequest) -> dict[str, Any]:
        return {
            "backend": backend,
            "path": os.fspath(video.path),
            "request": asdict(request),
            "start_s": video.start_s,
            "end_s": video.end_s,
            "fps": video.fps,
            "splice": _plain(video.splice),
            "threads": self._threads,
        }

    def _take(self, stream: QueuedStream) -> Worker:
        with self._lock:
            if self._closed:
                raise Closed
            worker = self._idle.pop() if self._idle else Worker()
            self._busy[stream] = worker
            return worker

    def _give_back(self, worker: Worker, stream: QueuedStream, whole: bool) -> None:
        """A worker that was left in the middle of a video is ended, not reused."""
        with self._lock:
            del self._busy[stream]
            if whole and not self._closed:
                self._idle.append(worker)
                return
        worker.end()


def _plain(splice: Splice | None) -> dict[str, Any] | None:
    """As JSON carries it."""
    if splice is None:
        return None
    return {**asdict(splice), "image": None if splice.image is None else os.fspath(splice.image)}


def _given_up(video: Video, causes: str, failure: BackendFailed) -> VideoError:
    kind = getattr(failure, "kind", "damaged")
    return VideoError(f"{video.path} could not be decoded: {causes}; look at the file, or leave it out.", kind)


def _disagree(video: Video, about: str, after: str) -> str:
    return f"{video.path} could not be decoded to its end{after}, and the other decoder disagrees about {about}."
