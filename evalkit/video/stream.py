"""The queue of frames between a decoding process and the model."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator

import numpy as np

from evalkit.errors import VideoError
from evalkit.types import FramePlan


class StreamClosed(Exception):
    """The consumer does not want the rest of the frames."""


class QueuedStream:
    """A `FrameStream` that a thread fills while the model reads it; at most `limit_bytes` are queued, or one frame.

    Each frame can be read once.
    """

    plan: FramePlan

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._changed = threading.Condition()
        self._frames: deque[np.ndarray] = deque()
        self._queued_bytes = 0
        self._has_plan = False
        self._error: BaseException | None = None
        self._ended = self._closed = False
        self._checksums: list[int] = []
        self._decode_seconds = 0.0
        self._decoder = ""
        self._remarks: tuple[str, ...] = ()

    # The consumer's side

    @property
    def decode_seconds(self) -> float:
        return self._decode_seconds

    @property
    def decoder(self) -> str:
        return self._decoder

    @property
    def remarks(self) -> tuple[str, ...]:
        return self._remarks

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """uint8 `[n, height, width, 3]` RGB in plan order, n = size except for the last. Raises VideoError."""
        batch: list[np.ndarray] = []
        for left in reversed(range(len(self.plan))):
            batch.append(self._take())
            if not left:
                self._wait_for_end()
            if len(batch) == size or not left:
                yield np.stack(batch)
                batch = []

    def close(self) -> None:
        """Drop the unread frames and stop their decoding."""
        with self._changed:
            self._closed = True
            self._frames.clear()
            self._queued_bytes = 0
            self._changed.notify_all()

    def _take(self) -> np.ndarray:
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._ended or self._closed)
            if self._frames:
                frame = self._frames.popleft()
                self._queued_bytes -= frame.nbytes
                self._changed.notify_all()
                return frame
            raise self._error or _closed_error()

    def _wait_for_end(self) -> None:
        """Raise what the checks after the last frame found: the file has changed meanwhile, say."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._closed)
            if self._error is not None:
                raise self._error

    # The side of the thread that fills it

    def set_plan(self, plan: FramePlan, decoder: str, seconds: float) -> bool:
        """Set the frame plan. A second decoder must find the same one; returns False where it does not."""
        with self._changed:
            if self._has_plan and self.plan != plan:
                return False
            self.plan, self._has_plan, self._decoder = plan, True, decoder
            self._decode_seconds += seconds
            self._changed.notify_all()
            return True

    def put(self, position: int, frame: np.ndarray, checksum: int, seconds: float) -> bool:
        """Add frame number `position` of the plan, whose CRC-32 is `checksum`, when there is room. A frame that was
        added before, by another decoder, is compared by its checksum instead; returns False where it differs. Raises
        StreamClosed."""
        with self._changed:
            self._decode_seconds += seconds
            if position < len(self._checksums):
                return self._checksums[position] == checksum
            self._changed.wait_for(
                lambda: self._closed or not self._frames or self._queued_bytes + frame.nbytes <= self._limit_bytes
            )
            if self._closed:
                raise StreamClosed
            self._checksums.append(checksum)
            self._frames.append(frame)
            self._queued_bytes += frame.nbytes
            self._changed.notify_all()
            return True

    def add_remark(self, remark: str) -> None:
        with self._changed:
            if remark not in self._remarks:
                self._remarks += (remark,)

    def end(self, error: BaseException | None = None) -> None:
        """No more frames follow; `error` says why, if not all were added."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    @property
    def done(self) -> bool:
        """No more frames will be added, or none are wanted."""
        return self._ended or self._closed

    def wait_for_plan(self) -> QueuedStream:
        """Wait until the plan is known. Raises the error that occurred before."""
        with self._changed:
            self._changed.wait_for(lambda: self._has_plan or self._ended)
            if not self._has_plan:
                raise self._error or _closed_error()
            return self


def _closed_error() -> VideoError:
    return VideoError("The frames of this video were closed before they were read.", kind="closed")
