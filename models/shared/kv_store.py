"""The KV store: keys and values of a context, per layer, each kind of row in a buffer of its own.

    text     prefix | timestamps and subtitles of group 0 | of group 1 | ... | tail
    visual   visual tokens of group 0 | of group 1 | ...

So what chunked prefill and bi-level decode read are contiguous slices: all text so far, the visual tokens of a window.
The layout of the context says which kinds there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from .attention import Part
from .kv_rows import Keys, KVRows, Place
from .qwen2 import Qwen2Decoder, Rope, rotate

BLOCK_ROWS = 32768
"""Rows read at a time where a whole history is streamed through attention."""

Slice = tuple[str, int, int]
"""Kind, first row and end."""


class ContextLayout(Protocol):
    """What a store has to know of a context."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Rows of each kind."""
        ...

    @property
    def length(self) -> int:
        """The position that follows the context."""
        ...


L = TypeVar("L", bound=ContextLayout)


class KVStore(Generic[L]):
    """See the module. `rows`: by kind. `layout`: of what has been written so far."""

    def __init__(self, decoder: Qwen2Decoder, layout: L, keys: Keys = Keys.ROTATED, host: bool = False) -> None:
        """`layout` is that of an empty context. `host`: keep the rows in host memory."""
        size = decoder.size
        self.device = decoder.device
        self.place = Place(self.device, host)
        self.rope: Rope = decoder.rope
        self.layout = layout
        shape = (size.layers, size.kv_heads, size.head_dim)
        self.rows = {kind: KVRows(shape, keys, decoder.dtype, self.place) for kind in layout.counts}

    def reserve(self, layout: L) -> None:
        """Room for a context up to `layout`; one allocation where the whole of it is known beforehand."""
        for kind, count in layout.counts.items():
            self.rows[kind].reserve(count)

    def set_positions(self, positions: Tensor, which: Mapping[str, Tensor]) -> None:
        """Say where the next rows stand: for each kind, which of `positions [n]` are its rows."""
        for kind, chosen in which.items():
            rows = self.rows[kind]
            rows.positions[rows.count : rows.count + len(chosen)] = positions[chosen].to(rows.positions.device)

    def write(
        self, layer: int, which: Mapping[str, Tensor], unrotated: Tensor, rotated: Tensor, values: Tensor
    ) -> None:
        """One layer of the next rows `[kv heads, n, d]`; `which` of them are of each kind. They count once `commit` is
        called."""
        for kind, chosen in which.items():
            if len(chosen):
                self.rows[kind].write(layer, *(x[:, chosen] for x in (unrotated, rotated, values)))

    def commit(self, layout: L) -> None:
        """All layers have been written up to `layout`."""
        self.layout = layout
        for kind, count in layout.counts.items():
            self.rows[kind].count = count

    def read(self, kind: str, layer: int, start: int, end: int) -> Part:
        """Rotated keys and values `[kv heads, end - start, d]` on the computing device."""
        rows, fetch = self.rows[kind], self.place.fetch
        values = fetch(rows.values[layer, :, start:end])
        if rows.rotated is not None:
            return fetch(rows.rotated[layer, :, start:end]), values
        assert rows.unrotated is not None
        keys = fetch(rows.unrotated[layer, :, start:end])
        return rotate(keys, self.rope.at(rows.positions[start:end].to(self.device))), values

    def blocks(self, kind: str, layer: int, start: int, end: int) -> Iterator[Part]:
        """The same, a block at a time."""
        for at in range(start, end, BLOCK_ROWS):
            yield self.read(kind, layer, at, min(at + BLOCK_ROWS, end))

    def slices(self, layer: int, wanted: Sequence[Slice]) -> list[Part] | Iterator[Part]:
        """Several slices: as a list where that is little, block by block where it is not."""
        if sum(end - start for _, start, end in wanted) <= BLOCK_ROWS:
            return [self.read(kind, layer, start, end) for kind, start, end in wanted]
        return chain.from_iterable(self.blocks(kind, layer, start, end) for kind, start, end in wanted)

    def parts(self, layer: int) -> Iterator[Part]:
        """Everything in the store, as a question sees it."""
        for kind, rows in self.rows.items():
            yield from self.blocks(kind, layer, 0, rows.count)

    def forget_rotated(self) -> None:
        """Keep unrotated keys alone; readers rotate what they read."""
        for rows in self.rows.values():
            assert rows.unrotated is not None
            rows.rotated = None

    @property
    def length(self) -> int:
        """The position that follows the context."""
        return self.layout.length

    @property
    def nbytes(self) -> int:
        """Bytes that the rows of the context take, exactly."""
        return sum(rows.nbytes(rows.count) for rows in self.rows.values())
