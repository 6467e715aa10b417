"""Messages between the reader and its decoding processes: a length, a JSON object, and for a frame its bytes.

JSON and raw pixels alone: nothing that arrives is ever unpickled.
"""

from __future__ import annotations

import json
import os
import select
import struct
import threading
import time
import zlib
from typing import IO, Any

import numpy as np

from evalkit.types import FramePlan

LENGTH = struct.Struct("<I")
LONGEST = 1 << 26


class Silence(Exception):
    """Nothing came for too long."""


class Hangup(Exception):
    """The other side is gone."""


class Garbled(Exception):
    """What came is no message."""


class Sender:
    """The worker's end. Threads may send at the same time: a message is written whole."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._last_sign_of_life = time.monotonic()

    def send(self, message: dict[str, Any], frame: np.ndarray | None = None) -> None:
        """Raises BrokenPipeError when nobody listens any more."""
        if frame is not None:
            frame = np.ascontiguousarray(frame)
            message = {**message, "shape": frame.shape, "crc32": zlib.crc32(frame.data)}
        body = json.dumps(message).encode()
        with self._lock:
            self._write(LENGTH.pack(len(body)) + body)
            if frame is not None:
                self._write(frame.data.cast("B"))

    def alive(self) -> None:
        """Say that work goes on, at most once a second."""
        now = time.monotonic()
        if now - self._last_sign_of_life > 1.0:
            self._last_sign_of_life = now
            self.send({"type": "alive"})

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while len(rest):
            rest = rest[self._pipe.write(rest) :]


def receive(pipe: IO[bytes], timeout_s: float | None = None) -> tuple[dict[str, Any], np.ndarray | None]:
    """The next message, and the frame that came with it. Raises Silence when no byte comes for `timeout_s`, Hangup or
    Garbled."""
    (length,) = LENGTH.unpack(_read(pipe, bytearray(LENGTH.size), timeout_s))
    if length > LONGEST:
        raise Garbled
    try:
        message = json.loads(bytes(_read(pipe, bytearray(length), timeout_s)))
    except ValueError:
        raise Garbled from None
    if not isinstance(message, dict):
        raise Garbled
    if "shape" not in message:
        return message, None
    frame = np.empty(message["shape"], np.uint8)
    _read(pipe, frame.data.cast("B"), timeout_s)
    if zlib.crc32(frame.data) != message["crc32"]:
        raise Garbled
    return message, frame


def _read(pipe: IO[bytes], into: bytearray | memoryview, timeout_s: float | None) -> bytearray | memoryview:
    rest = memoryview(into)
    waiting = select.poll()  # unlike select(), for any number of open files
    waiting.register(pipe, select.POLLIN)
    while len(rest):
        if timeout_s is not None and not waiting.poll(timeout_s * 1000):
            raise Silence
        try:
            got = os.readv(pipe.fileno(), [rest])
        except OSError as error:
            raise Hangup from error
        if not got:
            raise Hangup
        rest = rest[got:]
    return into


def plan_from(fields: dict[str, Any]) -> FramePlan:
    """A plan as JSON gives it back; other fields of the message are left alone."""
    return FramePlan(
        indices=tuple(fields["indices"]),
        times_s=tuple(fields["times_s"]),
        native_fps=fields["native_fps"],
        frame_count=fields["frame_count"],
        rule=fields["rule"],
    )
