"""Filling a frame stream: from the frame store, else by the chosen decoder, else by the other one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from evalkit.errors import VideoError
from evalkit.types import Composite, FrameRequest, Video

from .info import BackendFailed
from .process import Worker, WorkerPool
from .settings import BACKENDS, VideoSettings, decord_installed
from .store import DamagedEntry, FrameStore
from .stream import Closed, QueuedStream
from .wire import plan_from


class Filler:
    """Knows where frames come from. Frames of one stream come from one decoder, or from two that agree: what the second
    gives is compared with all that the first gave already."""

    def __init__(self, settings: VideoSettings, pool: WorkerPool, store: FrameStore | None, threads: int) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        self._threads = threads

    def fill(self, video: Video, request: FrameRequest, stream: QueuedStream) -> None:
        """Put all frames into `stream` and end it, with the error if there is one."""
        try:
            self._fill(video, request, stream)
            stream.end()
        except Closed:
            stream.end()
        except BaseException as error:
            stream.end(error)

    def _fill(self, video: Video, request: FrameRequest, stream: QueuedStream) -> None:
        job = self._job(video, request)
        key = self._store.key(job) if self._store else None
        if key and self._from_store(key, stream):
            return
        first = self._settings.backend
        other = next(b for b in BACKENDS if b != first)
        try:
            self._decode(job, stream, key)
        except BackendFailed as failure:
            if other == "decord" and not decord_installed():
                raise _given_up(video, f"{first} failed: {failure}", failure) from failure
            try:
                self._decode(
                    {**job, "backend": other, "standing_in": True}, stream, None, f" ({first} failed: {failure})"
                )
            except BackendFailed as second:
                causes = f"{first} failed: {failure}; {other} failed: {second}"
                raise _given_up(video, causes, failure) from second

    def _from_store(self, key: str, stream: QueuedStream) -> bool:
        """Whether the store had all frames."""
        assert self._store is not None
        stored = self._store.open(key)
        if stored is None:
            return False
        stream.promise(stored.plan, stored.decoder, 0.0)
        try:
            for position, (frame, checksum) in enumerate(stored.frames()):
                stream.put(position, frame, checksum, 0.0)
        except DamagedEntry:
            self._store.drop(key)
            return False
        return True

    def _decode(self, job: dict[str, Any], stream: QueuedStream, key: str | None, after: str = "") -> None:
        """Have one worker decode the video, and store its frames under `key`. `after` says what was tried before.
        Raises VideoError (final), BackendFailed (try the other decoder) or Closed."""
        with self._worker(stream) as worker, ExitStack() as keeping:
            worker.start(job)
            entry = None
            position = 0
            while True:
                message, frame = worker.receive(self._settings.timeout_s)
                if frame is not None:
                    if entry is not None:
                        entry.add(frame, message["crc32"])
                    if not stream.put(position, frame, message["crc32"], message["seconds"]):
                        raise _disagree(job, f"frame {stream.plan.indices[position]}", after)
                    position += 1
                elif message["type"] == "plan":
                    plan = plan_from(message)
                    if not stream.promise(plan, message["decoder"] + after, message["seconds"]):
                        raise _disagree(job, "which frames it has", after)
                    if key and self._store:
                        entry = keeping.enter_context(self._store.entry(key, plan, message["decoder"]))
                elif message["type"] == "error":
                    worker.idle = True
                    if message["final"]:
                        raise VideoError(message["message"], message["kind"])
                    raise BackendFailed(message["message"])
                elif message["type"] == "end":
                    worker.idle = True
                    return

    @contextmanager
    def _worker(self, stream: QueuedStream) -> Iterator[Worker]:
        if stream.done:
            raise Closed
        worker = self._pool.take(stream)
        try:
            yield worker
        finally:
            self._pool.give_back(worker, stream)

    def _job(self, video: Video, request: FrameRequest) -> dict[str, Any]:
        return {
            "backend": self._settings.backend,
            "path": os.fspath(video.path),
            "request": asdict(request),
            "start_s": video.start_s,
            "end_s": video.end_s,
            "fps": video.fps,
            "composite": _plain(video.composite),
            "standing_in": False,
            "threads": self._threads,
        }


def _plain(composite: Composite | None) -> dict[str, Any] | None:
    """As JSON carries it."""
    if composite is None:
        return None
    return {**asdict(composite), "image": None if composite.image is None else os.fspath(composite.image)}


def _given_up(video: Video, causes: str, failure: BackendFailed) -> VideoError:
    kind = getattr(failure, "kind", "damaged")
    return VideoError(f"{video.path} could not be decoded: {causes}; look at the file, or leave it out.", kind)


def _disagree(job: dict[str, Any], about: str, after: str) -> VideoError:
    return VideoError(
        f"{job['path']} could not be decoded to its end{after}, and the other decoder disagrees about {about}.",
        kind="damaged",
    )
