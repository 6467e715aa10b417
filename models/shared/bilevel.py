"""Bi-level KV decoding: for a question, dense keys and values of the chunks that matter and pooled ones of the rest.

Pooling and moving happen before rotation: a pooled token is the mean of consecutive visual tokens of its group, keys
and values alike, and what a question reads gets the compact positions 0 .. n-1. Text is never pooled.

Source: github.com/VectorSpaceLab/Video-XL, Video-XL-2/eval/lvu/w_chunk_bilevel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from .assembled_kv import AssembledKV, Piece
from .kv_rows import Keys, KVRows
from .kv_store import KVStore
from .layout import TEXT, VISUAL, Layout


@dataclass
class Pooled:
    """Visual rows of all groups, pooled, before rotation. `first[g]` is the first row of group g."""

    compression: int
    rows: KVRows
    first: list[int]

    @property
    def nbytes(self) -> int:
        return self.rows.nbytes(self.rows.count)


@torch.inference_mode()
def pool(store: KVStore[Layout], compression: int) -> Pooled:
    """Once a video. Visual tokens that do not fill a last mean of their group are dropped. The rows lie where those of
    the store do."""
    layout, visual = store.layout, store.rows[VISUAL]
    assert visual.unrotated is not None, "pooling needs unrotated keys"
    kept = Layout(visual=[count // compression for count in layout.visual], text=[0] * layout.groups)
    source: Tensor | slice = slice(0, visual.count)
    if any(count % compression for count in layout.visual):
        starts = zip(layout.visual_rows, kept.visual, strict=False)
        rows = [row for start, count in starts for row in range(start, start + count * compression)]
        source = torch.tensor(rows, dtype=torch.int64, device=visual.values.device)
    pooled = KVRows((visual.layers, visual.heads, visual.dim), Keys.UNROTATED, visual.dtype, visual.place)
    pooled.reserve(kept.visual_tokens)
    assert pooled.unrotated is not None
    for layer in range(visual.layers):  # one at a time: the copy in float32 stays small
        for target, full in ((pooled.unrotated, visual.unrotated), (pooled.values, visual.values)):
            target[layer] = full[layer][:, source].float().unflatten(1, (-1, compression)).mean(2)
    pooled.count = kept.visual_tokens
    return Pooled(compression, pooled, kept.visual_rows)


def bilevel_layout(layout: Layout, compression: int, dense: Iterable[int]) -> Layout:
    """The layout of what a question reads: `dense` groups keep all their visual tokens, the others are pooled."""
    kept = frozenset(dense)
    visual = [count if group in kept else count // compression for group, count in enumerate(layout.visual)]
    return Layout(layout.prefix, layout.tail, layout.text, visual)


def assemble_bilevel(store: KVStore[Layout], pooled: Pooled, dense: Iterable[int]) -> AssembledKV:
    """What one question reads instead of the store: all text, then the visual rows, dense or pooled, in time order.
    `dense`: the groups that keep all their visual tokens."""
    kept = frozenset(dense)
    layout = bilevel_layout(store.layout, pooled.compression, kept)
    pieces = [Piece(store.rows[TEXT], 0, store.rows[TEXT].count), *_visual_pieces(store, pooled, kept)]
    return AssembledKV(pieces, layout.text_positions() + layout.visual_positions(), layout.length, store.rope)


def _visual_pieces(store: KVStore[Layout], pooled: Pooled, dense: frozenset[int]) -> Iterator[Piece]:
    """One piece for each run of neighbouring groups that are all dense or all pooled."""
    for is_dense, run in groupby(range(store.layout.groups), key=dense.__contains__):
        groups = list(run)
        first = store.layout.visual_rows if is_dense else pooled.first
        rows = store.rows[VISUAL] if is_dense else pooled.rows
        yield Piece(rows, first[groups[0]], first[groups[-1] + 1])
