"""Messages between the reader and its decoding processes: a length, a JSON object, and for a frame its bytes.

Only JSON and raw pixels are exchanged; nothing that arrives is unpickled.
"""

from __future__ import annotations

import json
import os
import select
import struct
import threading
import time
import zlib
from dataclasses import asdict
from typing import IO, Any

import numpy as np

from evalkit.types import FramePlan, FrameRequest

from .resize import resize_from_json, resize_to_json

LENGTH = struct.Struct("<I")
MAX_JSON_BYTES = 1 << 26


class ReceiveTimeout(Exception):
    """No byte arrived in the time allowed."""


class ConnectionClosed(Exception):
    """The other process has closed the pipe, or ended."""


class InvalidMessage(Exception):
    """The bytes that arrived are not a message."""


class Sender:
    """The decoding process's end. Threads may send at the same time: each message is written whole."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._last_alive = time.monotonic()

    def send(self, message: dict[str, Any], frame: np.ndarray | None = None) -> None:
        """Raises BrokenPipeError when the reader is gone."""
        if frame is not None:
            frame = np.ascontiguousarray(frame)
            message = {**message, "shape": frame.shape, "crc32": zlib.crc32(frame.data)}
        body = json.dumps(message).encode()
        with self._lock:
            self._write(LENGTH.pack(len(body)) + body)
            if frame is not None:
                self._write(frame.data.cast("B"))

    def alive(self) -> None:
        """Tell the reader that decoding makes progress, at most once a second."""
        now = time.monotonic()
        if now - self._last_alive > 1.0:
            self._last_alive = now
            self.send({"type": "alive"})

    def _write(self, data: bytes | memoryview) -> None:
        rest = memoryview(data)
        while len(rest):
            rest = rest[self._pipe.write(rest) :]


def receive(pipe: IO[bytes], timeout_s: float | None = None) -> tuple[dict[str, Any], np.ndarray | None]:
    """The next message, and the frame that came with it. Raises ReceiveTimeout when no byte arrives for `timeout_s`,
    ConnectionClosed or InvalidMessage."""
    (length,) = LENGTH.unpack(_read(pipe, bytearray(LENGTH.size), timeout_s))
    if length > MAX_JSON_BYTES:
        raise InvalidMessage
    try:
        message = json.loads(bytes(_read(pipe, bytearray(length), timeout_s)))
    except ValueError:
        raise InvalidMessage from None
    if not isinstance(message, dict):
        raise InvalidMessage
    if "shape" not in message:
        return message, None
    frame = np.empty(message["shape"], np.uint8)
    _read(pipe, frame.data.cast("B"), timeout_s)
    if zlib.crc32(frame.data) != message["crc32"]:
        raise InvalidMessage
    return message, frame


def _read(pipe: IO[bytes], into: bytearray | memoryview, timeout_s: float | None) -> bytearray | memoryview:
    rest = memoryview(into)
    poll = select.poll()  # unlike select(), it works for any number of open files
    poll.register(pipe, select.POLLIN)
    while len(rest):
        if timeout_s is not None and not poll.poll(timeout_s * 1000):
            raise ReceiveTimeout
        try:
            got = os.readv(pipe.fileno(), [rest])
        except OSError as error:
            raise ConnectionClosed from error
        if not got:
            raise ConnectionClosed
        rest = rest[got:]
    return into


def plan_from_json(fields: dict[str, Any]) -> FramePlan:
    """A frame plan from the fields of `asdict(plan)`; other fields are ignored."""
    return FramePlan(
        indices=tuple(fields["indices"]),
        times_s=tuple(fields["times_s"]),
        native_fps=fields["native_fps"],
        frame_count=fields["frame_count"],
        rule=fields["rule"],
    )


def request_to_json(request: FrameRequest) -> dict[str, Any]:
    return {**asdict(request), "resize": resize_to_json(request.resize)}


def request_from_json(fields: dict[str, Any]) -> FrameRequest:
    """The inverse of `request_to_json`."""
    return FrameRequest(**{**fields, "resize": resize_from_json(fields["resize"])})
