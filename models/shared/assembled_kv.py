"""Keys and values put together for one question, out of slices of rows of any kind and of any store.

Slices are copied before rotation and rotated for the positions that they get in the new order. Bi-level decode takes
all text, and of each chunk the visual or the pooled rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .attention import Part
from .kv_rows import KVRows
from .qwen2 import Rope, rotate


@dataclass(frozen=True)
class Piece:
    """The rows from `start` to `end`, not included."""

    rows: KVRows
    start: int
    end: int


class AssembledKV:
    """A memory to generate behind: one contiguous buffer on the computing device. `positions`: of each row; `length`:
    of the first token behind."""

    def __init__(self, pieces: Sequence[Piece], positions: Sequence[int], length: int, rope: Rope) -> None:
        """`positions`: of each row, in the order of the pieces."""
        assert len(positions) == sum(piece.end - piece.start for piece in pieces)
        self.pieces, self.positions, self.length = pieces, positions, length
        first = pieces[0].rows
        shape = (first.layers, first.heads, len(positions), first.dim)
        self.keys = torch.empty(shape, dtype=first.dtype, device=first.place.device)
        self.values = torch.empty_like(self.keys)
        rotation = rope.at(torch.tensor(positions, dtype=torch.int64, device=first.place.device))
        with torch.inference_mode():
            for layer in range(first.layers):
                keys, self.values[layer] = self.unrotated(layer)
                self.keys[layer] = rotate(keys, rotation)

    def unrotated(self, layer: int) -> Part:
        """Keys before rotation and values `[kv heads, n, d]`."""
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for piece in self.pieces:
            rows, fetch = piece.rows, piece.rows.place.fetch
            assert rows.unrotated is not None, "assembling needs unrotated keys"
            keys.append(fetch(rows.unrotated[layer, :, piece.start : piece.end]))
            values.append(fetch(rows.values[layer, :, piece.start : piece.end]))
        return torch.cat(keys, 1), torch.cat(values, 1)

    def parts(self, layer: int) -> Iterator[Part]:
        yield self.keys[layer], self.values[layer]

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes
