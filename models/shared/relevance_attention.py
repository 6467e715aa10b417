"""Relevance from the model itself: how much of the question's attention falls on the visual tokens of a chunk.

No further model is needed, but each question is read twice: once behind the dense store, and once to be answered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .attention import Kernel, attend, fold
from .kv_store import KVStore
from .layout import VISUAL, Layout
from .qwen2 import Qwen2Decoder
from .relevance import RelevanceQuery, Scored

MASS_ROWS = 4096
"""Keys at a time whose attention is summed: a matrix of this times the question's rows exists."""


@dataclass
class AttentionRelevance(Scored):
    """`decoder` and `attention` are those that answer."""

    decoder: Any = None
    attention: Any = None

    def scores(self, asked: RelevanceQuery, chunks: Sequence[range]) -> Sequence[float]:
        mass = visual_mass(self.decoder, self.attention, asked.store, asked.ids)
        rows = asked.store.layout.visual_rows
        spans = [(rows[chunk[0]], rows[chunk[-1] + 1]) for chunk in chunks]
        return [float(mass[start:end].sum()) / max(1, end - start) for start, end in spans]


@torch.inference_mode()
def visual_mass(decoder: Qwen2Decoder, attention: Kernel, store: KVStore[Layout], ids: Sequence[int]) -> Tensor:
    """Attention that each visual row of `store` gets from the question `ids`, summed over its tokens, all heads and
    layers: float32 `[visual rows]`."""
    mass = torch.zeros(store.rows[VISUAL].count, dtype=torch.float32, device=store.device)

    def see(layer: int, q: Tensor, unrotated: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen = attend(attention, q, store.parts(layer), None)
        own = attention(q, k, v, causal=True)
        seen.add(*own)
        add_mass(mass, store, layer, q, seen.lse)
        return seen.out.to(q.dtype)

    embeds = decoder.embed(torch.tensor(list(ids), device=decoder.device))
    decoder.run(embeds, torch.arange(store.length, store.length + len(embeds), device=decoder.device), see)
    return mass


def add_mass(mass: Tensor, store: KVStore[Layout], layer: int, q: Tensor, lse: Tensor) -> None:
    """Add exp(q k - lse), the attention of `q [heads, n, d]`, of one layer to each visual row."""
    count, kv_heads = store.rows[VISUAL].count, store.rows[VISUAL].heads
    rows = fold(q, kv_heads)[0].float() * q.shape[-1] ** -0.5
    total = lse.reshape(kv_heads, -1, 1)
    for start in range(0, count, MASS_ROWS):
        end = min(start + MASS_ROWS, count)
        keys, _ = store.read(VISUAL, layer, start, end)
        mass[start:end] += (rows @ keys.float().transpose(-1, -2) - total).exp_().sum((0, 1))
