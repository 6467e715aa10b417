"""Messages between the reader and its decoding processes: a length, a JSON object, and for a frame its bytes.

JSON and raw pixels alone: nothing that arrives is ever unpickled.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from typing import IO, Any

import numpy as np

from evalkit.types import FramePlan

LENGTH = struct.Struct("<I")
LONGEST = 1 << 26


class Silence(Exception):
    """Nothing came for too long."""


class Hangup(Exception):
    """The other side is gone."""


def send(pipe: IO[bytes], message: dict[str, Any], frame: np.ndarray | None = None) -> None:
    """Raises BrokenPipeError."""
    if frame is not None:
        message = {**message, "shape": frame.shape}
    body = json.dumps(message).encode()
    _write(pipe, LENGTH.pack(len(body)) + body)
    if frame is not None:
        _write(pipe, np.ascontiguousarray(frame).data.cast("B"))


def _write(pipe: IO[bytes], data: bytes | memoryview) -> None:
    rest = memoryview(data)
    while len(rest):
        rest = rest[pipe.write(rest) :]


def receive(pipe: IO[bytes], timeout_s: float | None = None) -> tuple[dict[str, Any], np.ndarray | None]:
    """The next message, and the frame that came with it. Raises Silence when no byte comes for `timeout_s`, Hangup."""
    (length,) = LENGTH.unpack(_read(pipe, bytearray(LENGTH.size), timeout_s))
    if length > LONGEST:
        raise Hangup
    message = json.loads(bytes(_read(pipe, bytearray(length), timeout_s)))
    if "shape" not in message:
        return message, None
    frame = np.empty(message["shape"], np.uint8)
    _read(pipe, frame.data.cast("B"), timeout_s)
    return message, frame


def _read(pipe: IO[bytes], into: bytearray | memoryview, timeout_s: float | None) -> bytearray | memoryview:
    rest = memoryview(into)
    while len(rest):
        if timeout_s is not None and not select.select([pipe], [], [], timeout_s)[0]:
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


class Heartbeat:
    """Says that work goes on, at most once a second."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._last = time.monotonic()

    def __call__(self) -> None:
        now = time.monotonic()
        if now - self._last > 1.0:
            self._last = now
            send(self._pipe, {"type": "alive"})
