"""Bi-level KV decoding: for a question, dense keys and values of the chunks that matter and pooled ones of the rest.

Pooling and moving happen before rotation: a pooled token is the mean of consecutive visual tokens of its group, keys
and values alike, and the mix gets the compact positions 0 .. n-1. Text is never pooled.

Source: github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval/lvu/w_chunk_bilevel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from .attention import Part
from .kv_store import KVStore
from .layout import Layout
from .qwen2 import rotate


@dataclass
class Pooled:
    """Unrotated keys and values `[layers, kv heads, rows, d]` of all groups, pooled. `rows[g]` is the first row of
    group g. They lie where the store does."""

    compression: int
    keys: Tensor
    values: Tensor
    rows: list[int]

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


@torch.inference_mode()
def pool(store: KVStore, compression: int) -> Pooled:
    """Once a video. Visual tokens that do not fill a last mean of their group are dropped."""
    layout, visual = store.layout, store.visual
    assert visual.unrotated is not None, "pooling needs unrotated keys"
    kept = Layout(visual=[count // compression for count in layout.visual], text=[0] * layout.groups)
    source: Tensor | slice = slice(0, visual.count)
    if any(count % compression for count in layout.visual):
        starts = zip(layout.visual_rows, kept.visual, strict=False)
        rows = [row for start, count in starts for row in range(start, start + count * compression)]
        source = torch.tensor(rows, dtype=torch.int64, device=visual.home)

    def mean(x: Tensor) -> Tensor:
        out = x.new_empty(visual.layers, visual.heads, kept.visual_tokens, visual.dim)
        for layer in range(visual.layers):  # one at a time: the detour through float32 stays small
            out[layer] = x[layer][:, source].float().unflatten(1, (-1, compression)).mean(2)
        return out

    return Pooled(compression, mean(visual.unrotated), mean(visual.values), kept.visual_rows)


class Mix:
    """What one question attends to instead of the store. Rows are in the order of the store: all text, then the visual
    rows, dense or pooled, in time order; `layout` says where each stands."""

    def __init__(self, store: KVStore, pooled: Pooled, dense: Iterable[int]) -> None:
        """`dense`: the groups that keep all their visual tokens."""
        self.store, self.pooled = store, pooled
        self.dense = frozenset(dense)
        full = store.layout
        visual = [v if g in self.dense else v // pooled.compression for g, v in enumerate(full.visual)]
        self.layout = Layout(full.prefix, full.tail, full.text, visual)
        shape = (store.text.layers, store.text.heads, self.length, store.text.dim)
        self.keys = torch.empty(shape, dtype=store.text.dtype, device=store.device)
        self.values = torch.empty_like(self.keys)
        positions = torch.tensor(self.layout.text_positions() + self.layout.visual_positions(), device=store.device)
        rotation = store.rope.at(positions)
        with torch.inference_mode():
            for layer in range(store.text.layers):
                keys, self.values[layer] = self.unrotated(layer)
                self.keys[layer] = rotate(keys, rotation)

    def unrotated(self, layer: int) -> Part:
        """Keys before rotation and values of the mix `[kv heads, n, d]`."""
        text = self.store.text
        assert text.unrotated is not None
        keys, values = [text.unrotated[layer, :, : text.count]], [text.values[layer, :, : text.count]]
        for k, v, start, end in self.pieces():
            keys.append(k[layer, :, start:end])
            values.append(v[layer, :, start:end])
        fetch = self.store.fetch
        return torch.cat([fetch(k) for k in keys], 1), torch.cat([fetch(v) for v in values], 1)

    def pieces(self) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        """Stretches of visual rows: their keys and values over all layers, first row and end."""
        visual, pooled = self.store.visual, self.pooled
        assert visual.unrotated is not None
        for dense, stretch in groupby(range(self.layout.groups), key=lambda group: group in self.dense):
            groups = list(stretch)
            first, last = groups[0], groups[-1]
            if dense:
                rows = self.store.layout.visual_rows
                yield visual.unrotated, visual.values, rows[first], rows[last + 1]
            else:
                yield pooled.keys, pooled.values, pooled.rows[first], pooled.rows[last + 1]

    def parts(self, layer: int) -> Iterator[Part]:
        yield self.keys[layer], self.values[layer]

    @property
    def length(self) -> int:
        """The position that follows the mix."""
        return self.layout.length

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes
