"""A decoding process: `python -m evalkit.video.process_main`, started by the reader, which sends it jobs over its
standard input.

It imports av, numpy and Pillow only, so it starts fast, and a decoder that crashes ends only this process. It ends when
its parent has ended, however that happened.
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
from evalkit.text import first_line
from evalkit.types import Composite, FramePlan, FrameRequest

from .composite import CompositeVideo
from .decord import DecordDecoder
from .identity import file_state
from .index import Progress
from .info import Decoder, changed_while_read
from .messages import Sender, request_from_json
from .pictures import PictureFolder
from .pyav import PyAVDecoder
from .sampling import RESAMPLING, sample, trust


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the reader handles Ctrl-C
    sender = Sender(os.fdopen(os.dup(1), "wb", buffering=0))
    os.dup2(2, 1)  # what a decoder prints must not get between the messages
    av.logging.set_level(None)
    jobs: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_read_jobs, args=(jobs,), daemon=True).start()
    try:
        while True:
            serve(jobs.get(), sender)
    except BrokenPipeError:
        os._exit(0)


def _read_jobs(jobs: SimpleQueue[dict[str, Any]]) -> None:
    for line in sys.stdin.buffer:
        jobs.put(json.loads(line))
    os._exit(0)  # the reader is gone; end even while a decoder hangs


def serve(job: dict[str, Any], sender: Sender) -> None:
    """Answer a job with its plan, its frames and an end; or with an error at any point."""
    try:
        _decode(job, sender)
    except EvalkitError as error:
        sender.send({"type": "error", "final": True, "kind": getattr(error, "kind", "failed"), "message": str(error)})
    except BrokenPipeError:
        raise
    except Exception as error:  # decoders may raise anything; the reader notes it and makes another attempt
        text = first_line(error)
        sender.send({"type": "error", "final": False, "kind": "damaged", "message": text})


def _decode(job: dict[str, Any], sender: Sender) -> None:
    started = time.perf_counter()
    path = Path(job["path"])
    trust(job["plugins"])
    request = request_from_json(job["request"])
    before = file_state(path)
    decoder: Decoder = _open(path, job, sender.alive)
    if job["composite"]:
        composite = CompositeVideo(path, decoder, _composite(job["composite"]), request)
        decoder, plan = composite, composite.plan
    else:
        plan = plan_for(path, decoder, request, job["start_s"], job["end_s"])
    fields = {"type": "plan", "decoder": decoder.name, **asdict(plan)}
    sender.send({**fields, "seconds": time.perf_counter() - started})
    _send_frames(path, decoder, plan, request, sender)
    decoder.close()
    if file_state(path) != before:
        raise changed_while_read(path)
    sender.send({"type": "end", "remarks": decoder.remarks})


def _send_frames(path: Path, decoder: Decoder, plan: FramePlan, request: FrameRequest, sender: Sender) -> None:
    """Decode each planned frame once, resize it, and send it as often as it is planned."""
    started = time.perf_counter()
    info, resize = decoder.info, request.resize
    size = None if resize is None else resize.size_for(info.height, info.width, len(plan))
    shape: tuple[int, ...] | None = None
    times = Counter(plan.indices)
    for index, frame in zip(times, decode_ahead(decoder.frames(list(times))), strict=True):
        frame = resized(frame, size, request.resample)
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


def decode_ahead(frames: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """The same frames, decoded in another thread: one is decoded while the one before is resized and sent."""
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


def _open(path: Path, job: dict[str, Any], alive: Progress) -> Decoder:
    if path.is_dir():
        return PictureFolder(path, job["fps"])
    if job["backend"] == "pyav":
        return PyAVDecoder(path, job["threads"], alive)
    return DecordDecoder(path, job["threads"], alive, job["stand_in"])


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


def resized(frame: np.ndarray, size: tuple[int, int] | None, resample: str) -> np.ndarray:
    """uint8 `[height, width, 3]` at `size` (height, width), by Pillow, as the models' own preprocessing does it."""
    if size is None or frame.shape[:2] == size:
        return frame
    return np.asarray(Image.fromarray(frame).resize(size[::-1], RESAMPLING[resample]))


if __name__ == "__main__":
    main()
