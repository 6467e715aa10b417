"""What a context costs, in closed form: visible pairs, KV rows, floating point operations.

Imports no torch: the dry run uses it.
"""

from __future__ import annotations

from .layout import Layout, Policy


def causal_pairs(tokens: int) -> int:
    """Query-key pairs of causal attention."""
    return tokens * (tokens + 1) // 2


def visible_pairs(layout: Layout, policy: Policy, suffix: int = 0) -> int:
    """Query-key pairs that `policy` computes for the context and `suffix` text tokens behind it. Exact."""
    pairs = causal_pairs(layout.prefix)
    for group in range(layout.groups):
        text, visual, start = layout.text[group], layout.visual[group], layout.starts[group]
        pairs += text * start + causal_pairs(text)
        window = layout.visual_rows[group] - layout.visual_rows[policy.window(group)]
        pairs += visual * (layout.text_rows[group + 1] + window) + causal_pairs(visual)
    end = layout.tail + suffix
    return pairs + end * layout.starts[-1] + causal_pairs(end)


def attention_density(layout: Layout, policy: Policy, suffix: int = 0) -> float:
    """Visible pairs as a fraction of the causal ones; 1 is dense."""
    total = causal_pairs(layout.length + suffix)
    return visible_pairs(layout, policy, suffix) / total if total else 1.0
