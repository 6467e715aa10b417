"""What a context costs, in closed form: visible pairs, KV rows, floating point operations.

Imports no torch: the dry run uses it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .layout import Layout, Policy


def causal_pairs(tokens: int) -> int:
    """Query-key pairs of causal attention."""
    return tokens * (tokens + 1) // 2


def visible_pairs(layout: Layout, policy: Policy, suffix: int = 0) -> int:
    """Query-key pairs that `policy` computes for the context and `suffix` text tokens behind it. Exact."""
    pairs = causal_pairs(layout.prefix)
    for group in range(layout.groups):
        text, visual = layout.text[group], layout.visual[group]
        window = layout.visual_rows[group] - layout.visual_rows[policy.window(group)]
        seen = layout.visual_rows[group] if policy.text_sees_all else window
        pairs += text * (layout.text_rows[group] + seen) + causal_pairs(text)
        pairs += visual * (layout.text_rows[group + 1] + window) + causal_pairs(visual)
    end = layout.tail + suffix
    return pairs + end * layout.starts[-1] + causal_pairs(end)


def attention_density(layout: Layout, policy: Policy, suffix: int = 0) -> float:
    """Visible pairs as a fraction of the causal ones; 1 is dense."""
    total = causal_pairs(layout.length + suffix)
    return visible_pairs(layout, policy, suffix) / total if total else 1.0


def mixed_rows(layout: Layout, compression: int, dense: Collection[int]) -> int:
    """KV rows of bi-level decode where the groups `dense` keep their visual tokens:
    dense groups * (V + T) + other groups * (V / compression + T) + prefix and tail."""
    return layout.text_tokens + sum(v if g in dense else v // compression for g, v in enumerate(layout.visual))


@dataclass(frozen=True)
class LanguageSize:
    """Sizes of a Qwen2 decoder. Operations count a multiplication and an addition as two; norms, rotations, softmax and
    activations, some percent of the whole, are left out, as `torch.utils.flop_counter` leaves them out."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int

    @classmethod
    def of(cls, config: Any) -> LanguageSize:
        """From a `Qwen2Config`, or anything with its attributes."""
        return cls(
            config.hidden_size,
            config.intermediate_size,
            config.num_hidden_layers,
            config.num_attention_heads,
            config.num_key_value_heads,
            getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            config.vocab_size,
        )

    @property
    def row(self) -> int:
        """Operations of one token in the matrix products of one layer."""
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        return 2 * self.hidden * (2 * q + 2 * kv + 3 * self.intermediate)

    @property
    def weights(self) -> int:
        """Numbers in the weights, with an output layer of its own."""
        h, q, kv = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = h * q + q + 2 * (h * kv + kv) + q * h
        return self.layers * (attention + 3 * h * self.intermediate + 2 * h) + h + 2 * self.vocab * h

    @property
    def pair(self) -> int:
        """Operations of one query-key pair in one layer, all heads."""
        return 4 * self.heads * self.head_dim

    def kv_bytes(self, rows: int, itemsize: int) -> int:
        """Keys and values of `rows` tokens over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * itemsize * rows

    def prefill(self, layout: Layout, policy: Policy) -> int:
        """A context into the KV store. The last layer computes keys and values alone."""
        rows, pairs = layout.length, visible_pairs(layout, policy)
        keys_values = 2 * self.hidden * 2 * self.kv_heads * self.head_dim
        return (self.layers - 1) * (rows * self.row + pairs * self.pair) + rows * keys_values

    def extend(self, memory: int, rows: int, logits: int) -> int:
        """`rows` tokens behind `memory` of them, with `logits` looked at: a question of n tokens and its answer of t
        are n + t - 1 rows and t logits."""
        pairs = rows * memory + causal_pairs(rows)
        return self.layers * (rows * self.row + pairs * self.pair) + logits * 2 * self.hidden * self.vocab
