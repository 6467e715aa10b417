"""The device that a model computes on, and seconds spent there."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from evalkit.errors import ConfigError

T = TypeVar("T")


def chosen_device(name: str) -> torch.device:
    """`auto`: CUDA where there is one, else the CPU. Raises ConfigError."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device={name}, but torch {torch.__version__} sees no CUDA here: use device=auto or cpu.")
    if name != "auto":
        return torch.device(name)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class DeviceClock:
    """Adds up seconds by name; on CUDA, once the device has finished what was asked of it."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.device = device
        self.seconds: defaultdict[str, float] = defaultdict(float)
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(device)

    def now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = self.now()
        yield
        self.seconds[name] += self.now() - started

    def outside(self, name: str, items: Iterator[T]) -> Iterator[T]:
        """`items`, with the time it takes to get them left out of `name`."""
        while True:
            started = self.now()
            item = next(items, None)
            self.seconds[name] -= self.now() - started
            if item is None:
                return
            yield item

    def peak_memory_bytes(self) -> int | None:
        """Of the device since the clock was made; None where the device does not tell."""
        return torch.cuda.max_memory_allocated(self.device) if self.cuda else None
