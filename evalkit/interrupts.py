"""Ctrl-C, and the SIGTERM of a batch system."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """`asked`: the run should end. `after_question`: answers are coming, so the question at hand is waited for."""

    asked = False
    after_question = False


@contextmanager
def interruptible() -> Iterator[Stop]:
    """While answers are coming, the first signal lets the question at hand finish. Before that (data is read, a model
    is built), and at the second signal, everything stops at once with KeyboardInterrupt."""
    stop = Stop()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.asked or not stop.after_question:
            raise KeyboardInterrupt
        stop.asked = True
        print("\nstopping after this question (again: stop now)", file=sys.stderr, flush=True)

    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield stop
        return
    before = {s: signal.signal(s, handle) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
