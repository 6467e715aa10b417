"""A decoding process: `python -m evalkit.video.worker`, started by the reader and fed over its standard input.

It imports av, numpy and Pillow alone, so it starts in a moment, and a decoder that crashes takes nothing else along.
When its parent is gone, however that happened, it ends.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from queue import Queue, SimpleQueue
from typing import Any

import av
import numpy as np
from PIL import Image

from evalkit.errors import EvalkitError, VideoError
from evalkit.types import Composite, FramePlan, FrameRequest

from .composite import CompositeVideo
from .decord import DecordDecoder
from .index import Progress
from .info import Decoder
from .pictures import PictureFolder
from .pyav import PyAVDecoder
from .sampling import RESAMPLING, sample
from .wire import Sender


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the reader's business
    sender = Sender(os.fdopen(os.dup(1), "wb", buffering=0))
    os.dup2(2, 1)  # whatever a decoder prints must not get between the messages
    av.logging.set_level(None)
    jobs: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    try:
        while True:
            serve(jobs.get(), sender)
    except BrokenPipeError:
        os._exit(0)


def _listen(jobs: SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        jobs.put(json.loads(line))
    os._exit(0)  # even in the middle of a decoder that hangs


def serve(job: dict[str, Any], sender: Sender) -> None:
    """Answer a job with its plan, its frames and an end; or with an error at any point."""
    try:
        _decode(job, sender)
    except EvalkitError as error:
        sender.send({"type": "error", "final": True, "kind": getattr(error, "kind", "failed"), "message": str(error)})
    except BrokenPipeError:
        raise
    except Exception as error:  # what a decoder may raise is not known; the reader marks it and tries the other one
        text = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        sender.send({"type": "error", "final": False, "kind": "damaged", "message": text})


def _decode(job: dict[str, Any], sender: Sender) -> None:
    started = time.perf_counter()
    path = Path(job["path"])
    request = FrameRequest(**{**job["request"], "size": tuple(job["request"]["size"] or ()) or None})
    backend: Decoder = _opened(path, job, sender.alive)
    if job["composite"]:
        composite = CompositeVideo(path, backend, _composite(job["composite"]), request)
        backend, plan = composite, composite.plan
    else:
        plan = plan_for(path, backend, request, job["start_s"], job["end_s"])
    sender.send(
        {
            "type": "plan",
            "decoder": backend.name,
            **asdict(plan),
            "seconds": time.perf_counter() - started,
        },
    )
    started = time.perf_counter()
    shape: tuple[int, ...] | None = None
    times = Counter(plan.indices)
    for index, frame in zip(times, ahead(backend.frames(list(times))), strict=True):
        frame = resized(frame, request)
        if shape not in (None, frame.shape):
            raise VideoError(
                f"{path} changes its picture size at frame {index}; ask for frames of one size.", kind="damaged"
            )
        shape = frame.shape
        seconds = time.perf_counter() - started
        for _ in range(times[index]):
            sender.send({"type": "frame", "seconds": seconds}, frame)
            seconds = 0.0
        started = time.perf_counter()
    backend.close()
    sender.send({"type": "end"})


def ahead(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same frames, taken in a thread of their own: one is decoded while the one before is resized and sent."""
    ready: Queue[np.ndarray | BaseException | None] = Queue(maxsize=2)
    unwanted = threading.Event()

    def take() -> None:
        try:
            for frame in frames:
                ready.put(frame)
                if unwanted.is_set():
                    return
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=take, daemon=True).start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        unwanted.set()
        while not ready.empty():
            ready.get_nowait()


def _opened(path: Path, job: dict[str, Any], alive: Progress) -> Decoder:
    if path.is_dir():
        return PictureFolder(path, job["fps"])
    if job["backend"] == "pyav":
        return PyAVDecoder(path, job["threads"], alive)
    return DecordDecoder(path, job["threads"], alive, job["standing_in"])


def _composite(fields: dict[str, Any]) -> Composite:
    return Composite(**{**fields, "image": Path(fields["image"]) if fields["image"] else None})


def plan_for(
    path: Path, decoder: Decoder, request: FrameRequest, start_s: float | None, end_s: float | None
) -> FramePlan:
    """`sample` for an open video; its errors name the file."""
    try:
        return sample(request, decoder.info.frame_count, decoder.info.native_fps, start_s, end_s)
    except VideoError as error:
        raise VideoError(f"{path} {error}.", error.kind) from None


def resized(frame: np.ndarray, request: FrameRequest) -> np.ndarray:
    """uint8 `[height, width, 3]` at the wanted size, by Pillow, as the models' own preprocessing does it."""
    if request.size is None or frame.shape[:2] == tuple(request.size):
        return frame
    height, width = request.size
    return np.asarray(Image.fromarray(frame).resize((width, height), RESAMPLING[request.resample]))


if __name__ == "__main__":
    main()
