"""Frames on their way from a decoding process to the model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

import numpy as np

from evalkit.errors import VideoError
from evalkit.types import FramePlan


class Closed(Exception):
    """Nobody wants the rest of the frames."""


class QueuedStream:
    """A `FrameStream` that a thread fills while the model empties it; at most `limit_bytes` wait in between.

    One pass: frames leave as they are read.
    """

    plan: FramePlan

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition()
        self._frames: deque[np.ndarray] = deque()
        self._held_bytes = 0
        self._planned = False
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._checksums: list[int] = []
        self._decode_seconds = 0.0
        self._decoder = ""

    # What the model sees

    @property
    def decode_seconds(self) -> float:
        return self._decode_seconds

    @property
    def decoder(self) -> str:
        return self._decoder

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """uint8 `[n, height, width, 3]` RGB in plan order, n = size except for the last. Raises VideoError."""
        batch: list[np.ndarray] = []
        for _ in range(len(self.plan)):
            batch.append(self._take())
            if len(batch) == size:
                yield np.stack(batch)
                batch = []
        if batch:
            yield np.stack(batch)

    def close(self) -> None:
        """Give up the rest; what is decoding stops."""
        with self._changed:
            self._closed = True
            self._frames.clear()
            self._held_bytes = 0
            self._changed.notify_all()

    def _take(self) -> np.ndarray:
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._ended or self._closed)
            if self._frames:
                frame = self._frames.popleft()
                self._held_bytes -= frame.nbytes
                self._changed.notify_all()
                return frame
            raise self._error or _given_up()

    # What the filling thread does

    def promise(self, plan: FramePlan, decoder: str, seconds: float) -> bool:
        """Set the plan; a second decoder must come to the same one (False: it does not)."""
        with self._changed:
            if self._planned and self.plan != plan:
                return False
            self.plan, self._planned, self._decoder = plan, True, decoder
            self._decode_seconds += seconds
            self._changed.notify_all()
            return True

    def put(self, position: int, frame: np.ndarray, checksum: int, seconds: float) -> bool:
        """Add frame number `position` of the plan, whose CRC-32 is `checksum`, waiting for room. One that was given
        before is compared by it instead (False: it differs). Raises Closed."""
        with self._changed:
            self._decode_seconds += seconds
            if position < len(self._checksums):
                return self._checksums[position] == checksum
            self._changed.wait_for(
                lambda: self._closed or not self._frames or self._held_bytes + frame.nbytes <= self._limit_bytes
            )
            if self._closed:
                raise Closed
            self._checksums.append(checksum)
            self._frames.append(frame)
            self._held_bytes += frame.nbytes
            self._changed.notify_all()
            return True

    def end(self, error: BaseException | None = None) -> None:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    @property
    def done(self) -> bool:
        """No more frames will be put, or none are wanted."""
        return self._ended or self._closed

    def opened(self) -> QueuedStream:
        """Wait for the plan. Raises the error that came instead."""
        with self._changed:
            self._changed.wait_for(lambda: self._planned or self._ended)
            if not self._planned:
                raise self._error or _given_up()
            return self


def _given_up() -> VideoError:
    return VideoError("The frames of this video were given up before they were read.", kind="closed")
