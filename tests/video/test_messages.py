"""Messages between reader and worker: whole, whoever writes at the same time, and nothing else accepted."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evalkit.video.messages import LENGTH, ConnectionClosed, InvalidMessage, ReceiveTimeout, Sender, receive
from evalkit.video.process_main import decode_ahead


@contextmanager
def pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    out, into = os.pipe()
    with os.fdopen(out, "rb", buffering=0) as reading, os.fdopen(into, "wb", buffering=0) as writing:
        yield reading, writing


def test_messages_of_several_threads_stay_whole() -> None:
    frames = [np.full((64, 96, 3), i, np.uint8) for i in range(40)]
    with pipe() as (out, into):
        sender = Sender(into)

        def signs() -> None:
            for _ in range(400):
                sender.send({"type": "alive", "filler": "x" * 100})

        def pictures() -> None:
            for frame in frames:
                sender.send({"type": "frame"}, frame)

        threads = [threading.Thread(target=run) for run in (signs, pictures, signs)]
        for thread in threads:
            thread.start()
        got, alive = [], 0
        while len(got) < len(frames) or alive < 800:
            message, frame = receive(out, 5.0)
            if frame is None:
                assert message == {"type": "alive", "filler": "x" * 100}
                alive += 1
            else:
                got.append(frame)
        for thread in threads:
            thread.join()
    assert np.array_equal(got, frames)


def test_signs_of_life_are_rare_and_come() -> None:
    with pipe() as (out, into):
        sender = Sender(into)
        started = time.monotonic()
        while time.monotonic() - started < 1.2:
            sender.alive()
        assert receive(out, 0.1) == ({"type": "alive"}, None)
        with pytest.raises(ReceiveTimeout):
            receive(out, 0.05)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=60))
@example(LENGTH.pack(2) + b"12")
@example(LENGTH.pack(1 << 30))
@example(LENGTH.pack(3) + b"{{{")
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pipe() as (out, into):
        into.write(data)
        into.close()
        with pytest.raises((InvalidMessage, ConnectionClosed)):
            receive(out, 1.0)


def test_frames_taken_ahead_are_the_same_and_errors_come_in_their_place() -> None:
    def frames() -> Iterator[np.ndarray]:
        for i in range(10):
            yield np.full((2, 2, 3), i, np.uint8)
        raise ValueError("after ten")

    stream = decode_ahead(frames())
    assert [int(next(stream)[0, 0, 0]) for _ in range(10)] == list(range(10))
    with pytest.raises(ValueError, match="after ten"):
        next(stream)


def test_frames_nobody_takes_end_their_thread() -> None:
    before = threading.active_count()
    stream = decode_ahead(np.zeros((2, 2, 3), np.uint8) for _ in range(1000))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
