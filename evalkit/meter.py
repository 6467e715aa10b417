"""Peak host memory while one video is evaluated."""

from __future__ import annotations

from pathlib import Path

import psutil

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class HostPeak:
    """The highest resident memory of this process since the object was made, in bytes.

    Linux keeps this maximum and lets a process reset it ("5" to /proc/self/clear_refs, see proc(5)). On other systems
    (`exact` is False) `bytes` returns the present resident memory, which is a lower bound.
    """

    def __init__(self) -> None:
        try:
            _CLEAR.write_text("5")
            self.exact = True
        except OSError:
            self.exact = False

    def bytes(self) -> int:
        if self.exact:
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        return int(psutil.Process().memory_info().rss)
