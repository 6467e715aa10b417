"""Spaces requests evenly in time, so that an endpoint's limit of requests a minute is not exceeded."""

from __future__ import annotations

import threading
import time


class Pace:
    """At most `per_minute` requests a minute, at equal distances; 0: no limit. May be used from many threads."""

    def __init__(self, per_minute: float) -> None:
        self._interval_s = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def delay_s(self) -> float:
        """Reserve the next free moment, and return the seconds until then."""
        if not self._interval_s:
            return 0.0
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._interval_s
            return at - now
