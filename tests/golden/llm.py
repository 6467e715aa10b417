"""Golden sequences through the language half: decoder from a case, context into a store, suffix behind a memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import Qwen2Config

from evalkit.models.shared.attention import Kernel, kernel
from evalkit.models.shared.generate import Memory, QuestionRows, extend, generate
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import Layout, Policy
from evalkit.models.shared.prefill import Prefill
from evalkit.models.shared.qwen2 import Qwen2Decoder
from evalkit.types import Decoding

from .cases import Case


@cache
def decoder_of(case: Case, part: str = "") -> Qwen2Decoder:
    """The language model of a case, in float32. `part`: its entry of `dims`, where there are several."""
    dims = dict(case.meta["dims"][part] if part else case.meta["dims"])
    dims["rope_parameters"] = {"rope_type": "default", "rope_theta": dims.pop("rope_theta")}
    decoder = Qwen2Decoder(Qwen2Config(**dims))
    names = set(decoder.state_dict())
    weights = {key.removeprefix("model."): value for key, value in case.weights().items()}
    decoder.load_state_dict({key: value for key, value in weights.items() if key in names})
    return decoder.eval().requires_grad_(False)


def attention_of(decoder: Qwen2Decoder, name: str = "sdpa") -> Kernel:
    return kernel(name, decoder.device, decoder.dtype)


def prefilled(
    decoder: Qwen2Decoder,
    embeds: Tensor,
    spans: dict[str, Any],
    policy: Policy,
    keys: Keys = Keys.UNROTATED,
    host: bool = False,
    step_rows: int = 100,
    attention: str = "sdpa",
) -> KVStore:
    """Prefix and video of a golden sequence, group by group."""
    store = KVStore(decoder, Layout(), keys, host)
    prefill = Prefill(decoder, store, policy, attention_of(decoder, attention), step_rows)
    prefill.text(embeds[: spans["prefix"]])

    def groups() -> Iterator[tuple[Tensor, Tensor]]:
        for start, visual, end in spans["blocks"]:
            yield embeds[start:visual], embeds[visual:end]

    prefill.groups(groups())
    assert store.length == spans["video_end"]
    return store


def unrotated(store: KVStore, layer: int) -> tuple[Tensor, Tensor]:
    """Keys before rotation and values `[kv heads, n, d]` in the order of the sequence."""
    order = torch.tensor(store.layout.text_positions() + store.layout.visual_positions()).argsort()
    kinds = store.rows.values()
    keys = torch.cat([rows.unrotated[layer, :, : rows.count] for rows in kinds if rows.unrotated is not None], 1)
    return keys[:, order], torch.cat([rows.values[layer, :, : rows.count] for rows in kinds], 1)[:, order]


def suffix_logits(decoder: Qwen2Decoder, memory: Memory, suffix: Tensor) -> Tensor:
    """Logits `[n, vocab]` at every position of a suffix `[n, hidden]` behind a memory."""
    (hidden,) = extend(decoder, attention_of(decoder), memory, [QuestionRows(decoder, len(suffix))], [suffix])
    return decoder.logits(hidden)


def continuation(decoder: Qwen2Decoder, memory: Memory, suffix: Tensor, count: int) -> list[int]:
    """Greedy ids behind a suffix given as embeddings: the first from its logits, the others fed back."""
    attention, turn = attention_of(decoder), QuestionRows(decoder, len(suffix) + count)
    (hidden,) = extend(decoder, attention, memory, [turn], [suffix])
    ids: list[int] = []
    while len(ids) < count:
        ids.append(int(decoder.logits(hidden[-1]).argmax()))
        (hidden,) = extend(decoder, attention, memory, [turn], [decoder.embed(torch.tensor(ids[-1:]))])
    return ids


def answer(decoder: Qwen2Decoder, memory: Memory, ids: Tensor, count: int) -> list[int]:
    """Greedy ids behind a suffix given as ids, by the product's own loop."""
    decoding = Decoding(max_new_tokens=count)
    return generate(decoder, attention_of(decoder), memory, [ids.tolist()], decoding, stop=())[0].ids
