"""The settings of `video.*` on the command line."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field

from evalkit.errors import ConfigError, suggest
from evalkit.model import NEUTRAL

BACKENDS = ("pyav", "decord")

DECORD_MISSING = (
    "video.backend=decord asks for the package decord, which is not installed (it has wheels for x86-64 alone); "
    "install it with `pip install decord`, or leave video.backend=pyav."
)


@dataclass
class VideoSettings:
    """How videos are read. Only `backend` can change a frame, and so an answer."""

    backend: str = "pyav"
    workers: int = field(default=0, metadata=NEUTRAL)
    """Number of decoding processes; each decodes one video ahead. 0: one for every two cores, at most four."""
    timeout_s: float = field(default=120.0, metadata=NEUTRAL)
    """Seconds without progress after which a decoding process is ended."""
    queue_mb: int = field(default=256, metadata=NEUTRAL)
    """Host memory (MiB) for frames that are decoded and not yet used, of all videos together."""
    cache: str | None = field(default=None, metadata=NEUTRAL)
    """Folder of the frame store, shared by runs: a sweep decodes each video once. null: none."""
    cache_gb: float = field(default=50.0, metadata=NEUTRAL)
    """Size limit of the frame store (10^9 bytes)."""

    def check(self) -> None:
        """Raise ConfigError for values that cannot work on this machine."""
        if self.backend not in BACKENDS:
            raise ConfigError(
                f'video.backend is "{self.backend}".{suggest(self.backend, BACKENDS)} Choose one of: '
                f"{', '.join(BACKENDS)}."
            )
        if self.backend == "decord" and not decord_installed():
            raise ConfigError(DECORD_MISSING)
        if self.workers < 0:
            raise ConfigError(f"video.workers is {self.workers}; it must be 0 (by cores) or more.")
        if self.timeout_s <= 0:
            raise ConfigError(f"video.timeout_s is {self.timeout_s:g}; it must be above 0.")
        if self.queue_mb < 1:
            raise ConfigError(f"video.queue_mb is {self.queue_mb}; it must be at least 1.")
        if self.cache_gb <= 0:
            raise ConfigError(f"video.cache_gb is {self.cache_gb:g}; it must be above 0.")


def decord_installed() -> bool:
    return importlib.util.find_spec("decord") is not None
