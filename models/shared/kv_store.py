"""The KV store: keys and values of a context, per layer, text and visual tokens apart.

    text   [layers, kv heads, rows, d]   prefix | timestamps and cues of group 0 | of group 1 | ... | tail
    visual [layers, kv heads, rows, d]   visual tokens of group 0 | of group 1 | ...

What chunked prefill and bi-level assembly read are then contiguous slices: all text so far, the visual tokens of a
window. Keys are kept before rotation where they will be pooled or moved to other positions, rotated where they stay,
or both. The store lies on the device that computes or in (pinned) host memory; readers get the same tensors either way.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Flag, auto
from itertools import chain

import torch
from torch import Tensor

from .attention import Part
from .layout import Layout
from .qwen2 import Qwen2Decoder, Rope, rotate

BLOCK_ROWS = 32768
"""Rows read at a time where a whole history is streamed through attention."""


class Keys(Flag):
    """Which form of the keys is kept."""

    UNROTATED = auto()
    ROTATED = auto()


class Rows:
    """One kind of rows for all layers. Rows are written layer by layer behind `count`, and counted once all layers
    have them: what was written by a step that failed is simply overwritten."""

    def __init__(
        self, shape: tuple[int, int, int], keys: Keys, dtype: torch.dtype, home: torch.device, pin: bool
    ) -> None:
        self.layers, self.heads, self.dim = shape
        self.dtype, self.home, self.pin = dtype, home, pin
        self.count = self.capacity = 0
        self.positions = torch.empty(0, dtype=torch.int64)  # in the sequence, of each row
        self.values = self._empty(0)
        self.unrotated = self._empty(0) if Keys.UNROTATED in keys else None
        self.rotated = self._empty(0) if Keys.ROTATED in keys else None

    def _empty(self, rows: int) -> Tensor:
        return torch.empty(
            self.layers, self.heads, rows, self.dim, dtype=self.dtype, device=self.home, pin_memory=self.pin
        )

    def reserve(self, rows: int) -> None:
        """Room for `rows` in all. Beyond what was reserved, room grows by half, so that copying stays linear."""
        if rows <= self.capacity:
            return
        capacity = max(rows, self.capacity * 3 // 2 if self.count else 0)
        self.values = self._grown(self.values, capacity)
        self.unrotated = self._grown(self.unrotated, capacity) if self.unrotated is not None else None
        self.rotated = self._grown(self.rotated, capacity) if self.rotated is not None else None
        self.positions = torch.cat([self.positions[: self.count], self.positions.new_empty(capacity - self.count)])
        self.capacity = capacity  # last: where memory runs out on the way, nothing has been promised

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


class KVStore:
    """See the module. `host=True` keeps the rows in host memory, pinned where there is CUDA, and copies what is
    read."""

    def __init__(self, decoder: Qwen2Decoder, keys: Keys = Keys.ROTATED, host: bool = False) -> None:
        size = decoder.size
        self.device, self.host = decoder.device, host
        self.rope: Rope = decoder.rope
        self.layout = Layout()
        shape = (size.layers, size.kv_heads, size.head_dim)
        pin = host and self.device.type == "cuda"
        home = torch.device("cpu") if host else self.device
        self.text = Rows(shape, keys, decoder.dtype, home, pin)
        self.visual = Rows(shape, keys, decoder.dtype, home, pin)

    def make_room(self, layout: Layout) -> None:
        """Room for a context up to `layout`; one allocation where the whole of it is known beforehand."""
        self.text.reserve(layout.text_tokens)
        self.visual.reserve(layout.visual_tokens)

    def place(self, positions: Tensor, text: Tensor, visual: Tensor) -> None:
        """Say where in the sequence the next rows stand: those of `positions [n]` that are `text` and `visual`."""
        for rows, which in ((self.text, text), (self.visual, visual)):
            rows.positions[rows.count : rows.count + len(which)] = positions[which].to(rows.positions.device)

    def write(
        self, layer: int, text: Tensor, visual: Tensor, unrotated: Tensor, rotated: Tensor, values: Tensor
    ) -> None:
        """One layer of the next rows `[kv heads, n, d]`. They count once `commit` is called."""
        for rows, which in ((self.text, text), (self.visual, visual)):
            if len(which):
                rows.write(layer, *(x[:, which] for x in (unrotated, rotated, values)))

    def commit(self, layout: Layout) -> None:
        """All layers have been written up to `layout`."""
        self.layout = layout
        self.text.count, self.visual.count = layout.text_tokens, layout.visual_tokens

    def read(self, rows: Rows, layer: int, start: int, end: int) -> Part:
        """Rotated keys and values `[kv heads, end - start, d]` on the computing device."""
        values = self.fetch(rows.values[layer, :, start:end])
        if rows.rotated is not None:
            return self.fetch(rows.rotated[layer, :, start:end]), values
        assert rows.unrotated is not None
        keys = self.fetch(rows.unrotated[layer, :, start:end])
        return rotate(keys, self.rope.at(rows.positions[start:end].to(self.device))), values

    def blocks(self, rows: Rows, layer: int, start: int, end: int) -> Iterator[Part]:
        """The same, a block at a time."""
        for at in range(start, end, BLOCK_ROWS):
            yield self.read(rows, layer, at, min(at + BLOCK_ROWS, end))

    def near(self, layer: int, text: int, start: int, end: int) -> list[Part] | Iterator[Part]:
        """The first `text` text rows and the visual rows `start:end`; at once where that is little."""
        if text + end - start <= BLOCK_ROWS:
            return [self.read(self.text, layer, 0, text), self.read(self.visual, layer, start, end)]
        return chain(self.blocks(self.text, layer, 0, text), self.blocks(self.visual, layer, start, end))

    def parts(self, layer: int) -> Iterator[Part]:
        """Everything in the store, as a question sees it."""
        yield from self.blocks(self.text, layer, 0, self.text.count)
        yield from self.blocks(self.visual, layer, 0, self.visual.count)

    def fetch(self, rows: Tensor) -> Tensor:
        """`rows` on the computing device; a copy where the store lies in host memory."""
        if not self.host:
            return rows
        return torch.empty(rows.shape, dtype=rows.dtype, device=self.device).copy_(rows, non_blocking=True)

    def forget_rotated(self) -> None:
        """Keep unrotated keys alone; readers rotate what they read."""
        for rows in (self.text, self.visual):
            assert rows.unrotated is not None
            rows.rotated = None

    @property
    def length(self) -> int:
        """The position that follows the context."""
        return self.layout.length

    @property
    def nbytes(self) -> int:
        """Bytes that the rows of the context take, exactly."""
        return self.text.nbytes(self.text.count) + self.visual.nbytes(self.visual.count)
