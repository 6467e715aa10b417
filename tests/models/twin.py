"""The slow, obvious version: transformers' own Qwen2 over a whole sequence at once under a dense mask, whose rule is
written out pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from evalkit.models.shared.attention import Kernel, kernel
from evalkit.models.shared.generate import Memory, QuestionRows, extend
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import Chunked, Layout, Policy, Streaming
from evalkit.models.shared.prefill import Prefill
from evalkit.models.shared.qwen2 import Qwen2Decoder


def config(**sizes: Any) -> Qwen2Config:
    """A tiny decoder with every feature of the large one."""
    given = {
        "vocab_size": 96,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        "tie_word_embeddings": False,
    } | sizes
    return Qwen2Config(**given, attn_implementation="eager")


def pair(seed: int = 0, **sizes: Any) -> tuple[Qwen2Decoder, Qwen2ForCausalLM]:
    """Our decoder and transformers' with the same random weights, large enough for mistakes to show."""
    torch.manual_seed(seed)
    theirs = Qwen2ForCausalLM(config(**sizes)).eval().requires_grad_(False)
    for name, weight in theirs.named_parameters():
        noise = torch.randn_like(weight)
        weight.copy_(1 + 0.2 * noise if "norm" in name else 0.2 * noise)
        if "q_proj" in name or "k_proj" in name:
            weight.mul_(1.5)
    ours = Qwen2Decoder(config(**sizes))
    ours.load_state_dict({name.removeprefix("model."): weight for name, weight in theirs.state_dict().items()})
    return ours.eval().requires_grad_(False), theirs


@dataclass
class Sequence:
    """Random embeddings of a context and a question behind it."""

    layout: Layout
    suffix: int
    embeds: Tensor

    @classmethod
    def random(cls, layout: Layout, suffix: int, hidden: int, seed: int = 0) -> Sequence:
        generator = torch.Generator().manual_seed(seed)
        return cls(layout, suffix, torch.randn(layout.length + suffix, hidden, generator=generator))

    def groups(self) -> Iterator[tuple[Tensor, Tensor]]:
        starts, layout = self.layout.starts, self.layout
        for start, text, visual in zip(starts, layout.text, layout.visual, strict=False):
            yield self.embeds[start : start + text], self.embeds[start + text : start + text + visual]

    @property
    def question(self) -> Tensor:
        return self.embeds[self.layout.length :]


def groups_of(layout: Layout, suffix: int) -> tuple[list[int], list[bool]]:
    """For each position its group, -1 for prefix, tail and question; and whether it is a visual token."""
    groups, visual = [-1] * layout.prefix, [False] * layout.prefix
    for group, (texts, visuals) in enumerate(zip(layout.text, layout.visual, strict=True)):
        groups += [group] * (texts + visuals)
        visual += [False] * texts + [True] * visuals
    behind = layout.tail + suffix
    return groups + [-1] * behind, visual + [False] * behind


def allowed(layout: Layout, policy: Policy, suffix: int) -> Tensor:
    """The visibility rule, pair by pair: bool `[n, n]`."""
    group, visual = groups_of(layout, suffix)
    mask = torch.zeros(len(group), len(group), dtype=torch.bool)
    for row in range(len(group)):
        for column in range(row + 1):
            windowed = visual[row] or (isinstance(policy, Streaming) and group[row] >= 0)
            if not visual[column] or not windowed or not isinstance(policy, Chunked):
                mask[row, column] = True
            else:
                back = group[row] // policy.chunk_groups - group[column] // policy.chunk_groups
                mask[row, column] = back <= policy.previous_chunks
    return mask


def one_shot(theirs: Qwen2ForCausalLM, embeds: Tensor, mask: Tensor) -> Any:
    """transformers' output with its cache (rotated keys) under a bool mask `[n, n]`."""
    additive = torch.zeros(mask.shape).masked_fill_(~mask, torch.finfo(torch.float32).min)
    positions = torch.arange(len(embeds))[None]
    with torch.inference_mode():
        return theirs(
            inputs_embeds=embeds[None], attention_mask=additive[None, None], position_ids=positions, use_cache=True
        )


def sdpa(decoder: Qwen2Decoder) -> Kernel:
    return kernel("sdpa", decoder.device, decoder.dtype)


def prefilled(
    decoder: Qwen2Decoder,
    sequence: Sequence,
    policy: Policy,
    keys: Keys = Keys.ROTATED,
    host: bool = False,
    step_rows: int = 64,
    attention: Kernel | None = None,
) -> KVStore:
    """The context of `sequence` in a store."""
    store = KVStore(decoder, Layout(), keys, host)
    prefill = Prefill(decoder, store, policy, attention or sdpa(decoder), step_rows)
    layout, embeds = sequence.layout, sequence.embeds
    prefill.text(embeds[: layout.prefix])
    prefill.groups(sequence.groups())
    prefill.text(embeds[layout.length - layout.tail : layout.length])
    return store


def in_order(store: KVStore, layer: int, what: str) -> Tensor:
    """`rotated`, `unrotated` or `values` of one layer in the order of the sequence `[kv heads, n, d]`."""
    order = torch.tensor(store.layout.text_positions() + store.layout.visual_positions()).argsort()
    return torch.cat([getattr(rows, what)[layer, :, : rows.count] for rows in store.rows.values()], 1)[:, order]


def answered(decoder: Qwen2Decoder, memory: Memory, question: Tensor) -> Tensor:
    """Logits `[n, vocab]` of a question `[n, hidden]` behind a memory."""
    (hidden,) = extend(decoder, sdpa(decoder), memory, [QuestionRows(decoder, len(question))], [question])
    return decoder.logits(hidden)


def worst(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape, (a.shape, b.shape)
    return float((a - b).abs().max())
