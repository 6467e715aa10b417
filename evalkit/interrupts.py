"""Handles Ctrl-C and SIGTERM, which batch systems send."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """`asked`: a signal has asked the run to end. `after_question`: the model answers questions, so the run ends after
    the present one."""

    asked = False
    after_question = False


@contextmanager
def interruptible() -> Iterator[Stop]:
    """While the model answers questions, the first signal ends the run after the present question. Earlier (while data
    is read or the model is built), and at the second signal, KeyboardInterrupt is raised at once."""
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
