"""Where the frames of a stream come from: the frame store, else the chosen decoder, else another attempt."""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import Any

from evalkit.errors import VideoError
from evalkit.folder_cache import DamagedEntry
from evalkit.types import Composite, FrameRequest, Video

from .info import BackendFailed, changed_while_read
from .messages import plan_from_json, request_to_json
from .process import DecodingProcess, ProcessDied, ProcessPool, ProcessTimedOut
from .sampling import trusted
from .settings import BACKENDS, VideoSettings, decord_installed
from .store import FrameStore
from .stream import QueuedStream, StreamClosed

log = logging.getLogger(__name__)


class FrameSource:
    """Fills streams. All frames of a stream come from one decoder, or from several that agree: a later decoder's frames
    are compared with those that an earlier one delivered. Safe for several threads."""

    def __init__(self, settings: VideoSettings, pool: ProcessPool, store: FrameStore | None, threads: int) -> None:
        self._settings = settings
        self._pool = pool
        self._store = store
        self._threads = threads

    def fill(self, video: Video, request: FrameRequest, stream: QueuedStream) -> None:
        """Put all frames into `stream` and end it, with the error if there is one."""
        try:
            self._fill(video, request, stream)
            stream.end()
        except StreamClosed:
            stream.end()
        except BaseException as error:
            stream.end(error)

    def _fill(self, video: Video, request: FrameRequest, stream: QueuedStream) -> None:
        job = self._job(video, request)
        key = self._store.key(job) if self._store else None
        if key and self._from_store(key, stream):
            return
        first = self._settings.backend
        try:
            self._decode(job, stream, key)
            return
        except (ProcessDied, ProcessTimedOut) as failure:
            attempts, kind = [first, *_others(first)], failure.kind  # a new process first: the cause may be outside
            failures = [f"{first} failed: {failure}"]
        except BackendFailed as failure:
            attempts, kind = _others(first), "damaged"
            failures = [f"{first} failed: {failure}"]
        for backend in attempts:
            other = {"backend": backend, "stand_in": backend != first}
            try:
                self._decode(job | other, stream, None, f" ({'; '.join(failures)})")
                return
            except BackendFailed as failure:
                failures.append(f"{backend} failed: {failure}")
        raise VideoError(
            f"{video.path} could not be decoded: {'; '.join(failures)}; look at the file, or leave it out.", kind
        )

    def _from_store(self, key: str, stream: QueuedStream) -> bool:
        """Whether the store had all frames."""
        assert self._store is not None
        try:
            stored = self._store.open(key)
        except DamagedEntry as damage:
            log.warning("%s.", damage)
            stream.add_remark("the frame store's entry of this video was damaged; the video was decoded anew")
            return False
        except OSError as error:
            log.warning("%s cannot be read (%s); the video is decoded.", self._store.cache.path(key), error.strerror)
            return False
        if stored is None:
            return False
        with stored:
            for remark in stored.remarks:
                stream.add_remark(remark)
            stream.set_plan(stored.plan, stored.decoder, 0.0)
            for position, frame in enumerate(stored.frames()):
                stream.put(position, frame, zlib.crc32(frame.data), 0.0)
        return True

    def _decode(self, job: dict[str, Any], stream: QueuedStream, key: str | None, after: str = "") -> None:
        """Have a process decode the video, and store its frames under `key`. `after` says what failed before. Raises
        VideoError (final), BackendFailed (another attempt may succeed) or StreamClosed."""
        with self._process(stream) as process, ExitStack() as stack:
            process.start(job)
            entry = None
            position = 0
            while True:
                message, frame = process.receive(self._settings.timeout_s)
                if frame is not None:
                    if entry is not None:
                        entry.add(frame)
                    if not stream.put(position, frame, message["crc32"], message["seconds"]):
                        raise _disagree(job, f"frame {stream.plan.indices[position]}", after)
                    position += 1
                elif message["type"] == "plan":
                    plan = plan_from_json(message)
                    if not stream.set_plan(plan, message["decoder"] + after, message["seconds"]):
                        raise _disagree(job, "which frames it has", after)
                    if key and self._store:
                        entry = stack.enter_context(self._store.entry(key, plan, message["decoder"]))
                elif message["type"] == "error":
                    process.idle = True
                    if message["final"]:
                        raise VideoError(message["message"], message["kind"])
                    raise BackendFailed(message["message"])
                elif message["type"] == "end":
                    process.idle = True
                    for remark in message["remarks"]:
                        stream.add_remark(remark)
                    if entry is not None and self._store:
                        if self._store.key(job) != key:
                            raise changed_while_read(job["path"])
                        entry.commit(tuple(message["remarks"]))
                    return

    @contextmanager
    def _process(self, stream: QueuedStream) -> Iterator[DecodingProcess]:
        if stream.done:
            raise StreamClosed
        process = self._pool.take(stream)
        try:
            yield process
        finally:
            self._pool.give_back(process, stream)

    def _job(self, video: Video, request: FrameRequest) -> dict[str, Any]:
        return {
            "backend": self._settings.backend,
            "path": os.fspath(video.path),
            "request": request_to_json(request),
            "start_s": video.start_s,
            "end_s": video.end_s,
            "fps": video.fps,
            "composite": _composite_to_json(video.composite),
            "stand_in": False,
            "threads": self._threads,
            "plugins": trusted(),
        }


def _others(first: str) -> list[str]:
    """The backends that may stand in for `first`."""
    return [b for b in BACKENDS if b != first and (b != "decord" or decord_installed())]


def _composite_to_json(composite: Composite | None) -> dict[str, Any] | None:
    if composite is None:
        return None
    return {**asdict(composite), "image": None if composite.image is None else os.fspath(composite.image)}


def _disagree(job: dict[str, Any], about: str, after: str) -> VideoError:
    return VideoError(
        f"{job['path']} could not be decoded to its end{after}, and the next decoder disagrees about {about}.",
        kind="damaged",
    )
