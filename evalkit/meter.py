"""Host memory of one video, not inherited from the one before."""

from __future__ import annotations

from pathlib import Path

import psutil

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class HostPeak:
    """The process's highest resident size since this object was made, in bytes.

    Linux keeps a high-water mark and lets a process reset its own ("5" to clear_refs, see proc(5)); where that is not
    to be had, the resident size at the time of asking stands in, which is a lower bound.
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
