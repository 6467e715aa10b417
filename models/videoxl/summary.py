"""Visual summarisation of Video-XL: windows of visual tokens are read once; only summary tokens stay in the KV store.

    prefix | window 0: v v v v S v v v v S ... | window 1: ... | question

After every `ratio` visual tokens of a window stands a summary token S. Rows of a window see the prefix, the summary
tokens of earlier windows and, causally, themselves. Summary rows have query, key and value projections of their own.
What stays gets the compact positions 0 .. n-1, so keys are rotated anew when they join the store.

Source: github.com/VectorSpaceLab/Video-XL, Video-XL/videoxl (`beacon_*`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from transformers import Qwen2Config

from ..shared.attention import Kernel, attend
from ..shared.kv_store import KVStore
from ..shared.layout import TEXT
from ..shared.qwen2 import Layer, Qwen2Decoder, rotate

SUMMARY = "summary"
"""The kind of rows that stand for visual tokens."""


@dataclass(frozen=True)
class SummaryLayout:
    """Rows in the store: `prefix` of text, then `summaries`."""

    prefix: int = 0
    summaries: int = 0

    @property
    def counts(self) -> dict[str, int]:
        """Rows of each kind."""
        return {TEXT: self.prefix, SUMMARY: self.summaries}

    @property
    def length(self) -> int:
        """The position that follows the context."""
        return self.prefix + self.summaries


class SummaryLayer(Layer):
    """A layer with projections of its own for summary rows; everything else is shared."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__(config)
        for name in ("q", "k", "v"):
            ordinary = getattr(self.self_attn, f"{name}_proj")
            projection = nn.Linear(ordinary.in_features, ordinary.out_features, bias=True)
            setattr(self.self_attn, f"beacon_{name}_proj", projection)

    def project_window(self, x: Tensor, summary: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of rows `x [n, hidden]`, unrotated; `summary`: which of them are summary rows."""
        attention, h = self.self_attn, self.input_layernorm(x)
        found = []
        for name in ("q", "k", "v"):
            rows = getattr(attention, f"{name}_proj")(h)
            rows[summary] = getattr(attention, f"beacon_{name}_proj")(h[summary])
            found.append(attention.heads(rows))
        return found[0], found[1], found[2]


class SummaryDecoder(Qwen2Decoder):
    """Qwen2 with summary tokens. Parameter names are the checkpoint's."""

    def __init__(self, config: Qwen2Config) -> None:
        super().__init__(config)
        self.beacon_embed_tokens = nn.Embedding(1, config.hidden_size)
        self.layers = nn.ModuleList(SummaryLayer(config) for _ in range(config.num_hidden_layers))


class SummaryPrefill:
    """Fills `store` with the prefix and the summary tokens of a video. `ratio`: visual tokens of a summary token."""

    def __init__(self, decoder: SummaryDecoder, store: KVStore[SummaryLayout], attention: Kernel, ratio: int) -> None:
        self.decoder, self.store, self.attention, self.ratio = decoder, store, attention, ratio
        self.carried = 0  # visual tokens behind the last summary token

    @torch.inference_mode()
    def prefix(self, embeds: Tensor) -> None:
        """Text before the video `[n, hidden]`."""
        every = torch.arange(len(embeds), device=embeds.device)
        self._take(embeds, TEXT, every, every[:0], replace(self.store.layout, prefix=len(embeds)))

    @torch.inference_mode()
    def window(self, visual: Tensor, ratio: int | None = None) -> None:
        """The visual tokens of one window `[n, hidden]`, with a `ratio` of its own where one is given. Tokens that do
        not fill a last group of `ratio` join the first group of the next window; behind the last window they are lost,
        as in the authors' code."""
        ratio = ratio or self.ratio
        ends = torch.arange(ratio - self.carried, len(visual) + 1, ratio)
        self.carried = (self.carried + len(visual)) % ratio
        summary = (ends + torch.arange(len(ends))).to(visual.device)  # rows among visual and summary tokens
        rows = self.decoder.beacon_embed_tokens.weight.expand(len(visual) + len(ends), -1).clone()
        is_visual = torch.ones(len(rows), dtype=torch.bool, device=visual.device)
        is_visual[summary] = False
        rows[is_visual] = visual
        layout = self.store.layout
        self._take(rows, SUMMARY, summary, summary, replace(layout, summaries=layout.summaries + len(ends)))

    def _take(self, rows: Tensor, kind: str, kept: Tensor, summary: Tensor, after: SummaryLayout) -> None:
        """Run `rows` through the layers and keep the keys and values of the rows `kept`."""
        decoder, store = self.decoder, self.store
        start = store.length
        rotation = decoder.rope.at(torch.arange(start, start + len(rows), device=rows.device))
        positions = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        positions[kept] = torch.arange(start, start + len(kept), device=rows.device)
        compact = decoder.rope.at(positions)
        store.reserve(after)
        store.set_positions(positions, {kind: kept})
        for index in range(len(decoder.layers)):
            layer = decoder.layers[index]
            assert isinstance(layer, SummaryLayer)
            q, k, v = layer.project_window(rows, summary)
            store.write(index, {kind: kept}, k, rotate(k, compact), v)
            own = rotate(k, rotation), v
            seen = attend(self.attention, rotate(q, rotation), iter(store.parts(index)), own)
            rows = layer.finish(rows, seen.out.to(q.dtype))
        store.commit(after)
