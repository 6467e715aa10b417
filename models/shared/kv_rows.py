"""Rows of keys and values: one kind of token (text, visual, pooled, summary) over all layers.

    keys, values   [layers, kv heads, rows, d]

Keys are kept before rotation where they will be pooled or moved to other positions, rotated where they stay, or both.
Rows lie on the device that computes or in (pinned) host memory; readers get the same tensors either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto

import torch
from torch import Tensor


class Keys(Flag):
    """Which form of the keys is kept."""

    UNROTATED = auto()
    ROTATED = auto()


@dataclass(frozen=True)
class Place:
    """Where rows lie: on the computing `device`, or in host memory, pinned where there is CUDA."""

    device: torch.device
    host: bool = False

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        home = torch.device("cpu") if self.host else self.device
        return torch.empty(shape, dtype=dtype, device=home, pin_memory=self.host and self.device.type == "cuda")

    def fetch(self, rows: Tensor) -> Tensor:
        """`rows` on the computing device; a copy where they lie in host memory."""
        if not self.host:
            return rows
        return torch.empty(rows.shape, dtype=rows.dtype, device=self.device).copy_(rows, non_blocking=True)


class KVRows:
    """One kind of rows for all layers. Rows are written layer by layer behind `count`, and counted once all layers
    have them: what was written by a step that failed is overwritten."""

    def __init__(self, shape: tuple[int, int, int], keys: Keys, dtype: torch.dtype, place: Place) -> None:
        """`shape`: layers, kv heads, d."""
        self.layers, self.heads, self.dim = shape
        self.dtype, self.place = dtype, place
        self.count = self.capacity = 0
        self.positions = torch.empty(0, dtype=torch.int64)  # of each row, for its rotation
        self.values = self._empty(0)
        self.unrotated = self._empty(0) if Keys.UNROTATED in keys else None
        self.rotated = self._empty(0) if Keys.ROTATED in keys else None

    def _empty(self, rows: int) -> Tensor:
        return self.place.empty((self.layers, self.heads, rows, self.dim), self.dtype)

    def reserve(self, rows: int) -> None:
        """Room for `rows` in all. Beyond what was reserved, room grows by half, so that copying stays linear."""
        if rows <= self.capacity:
            return
        capacity = max(rows, self.capacity * 3 // 2 if self.count else 0)
        self.values = self._grown(self.values, capacity)
        self.unrotated = self._grown(self.unrotated, capacity) if self.unrotated is not None else None
        self.rotated = self._grown(self.rotated, capacity) if self.rotated is not None else None
        self.positions = torch.cat([self.positions[: self.count], self.positions.new_empty(capacity - self.count)])
        self.capacity = capacity  # last: an allocation that fails leaves it as it was

    def _grown(self, old: Tensor, capacity: int) -> Tensor:
        new = self._empty(capacity)
        new[:, :, : self.count] = old[:, :, : self.count]
        return new

    def write(self, layer: int, unrotated: Tensor, rotated: Tensor, values: Tensor) -> None:
        """The next rows `[kv heads, n, d]` of one layer."""
        start, end = self.count, self.count + values.shape[1]
        for target, source in ((self.unrotated, unrotated), (self.rotated, rotated), (self.values, values)):
            if target is not None:
                target[layer, :, start:end].copy_(source)

    def nbytes(self, rows: int) -> int:
        """Exact size of `rows` rows over all layers."""
        kept = 1 + (self.unrotated is not None) + (self.rotated is not None)
        return kept * rows * self.layers * self.heads * self.dim * self.dtype.itemsize
