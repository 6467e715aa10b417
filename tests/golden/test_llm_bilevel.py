"""Bi-level decoding against golden results: the mix, its positions, logits and greedy ids."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from evalkit.models.shared.assembled_kv import AssembledKV
from evalkit.models.shared.bilevel import assemble_bilevel, pool
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import Chunked

from .cases import Case, assert_close, find_variants
from .llm import continuation, decoder_of, prefilled, suffix_logits, unrotated


def mix_of(store: KVStore, variant: dict[str, Any]) -> AssembledKV:
    """The rule of the golden case, spelt out: units of two groups, chunks counted from one."""
    chunks = store.layout.chunks(variant["chunk_size"])
    assert len(chunks) == variant["video_chunks"]
    dense = {1, len(chunks)} | {2 * unit // variant["chunk_size"] + 1 for unit in variant["selected_units"]}
    dense = {chunk for chunk in dense if chunk <= len(chunks)}
    if not variant["selected_units"]:
        dense = set(range(1, len(chunks) + 1))
    else:
        assert sorted(dense) == variant["dense_chunks_counted_from_1"]
    groups = {group for chunk in dense for group in chunks[chunk - 1]}
    return assemble_bilevel(store, pool(store, variant["compression"]), groups)


@pytest.mark.parametrize("host", [False, True], ids=["resident", "host"])
@pytest.mark.parametrize(("case", "name"), find_variants("llm_bilevel"))
def test_mix_logits_and_ids(case: Case, name: str, host: bool) -> None:
    variant, tolerance = case.meta["variants"][name], case.meta["tolerance"]
    decoder, expected = decoder_of(case), case.expected()
    embeds, spans = case.inputs()[variant["inputs"]], case.meta["sequences"][variant["sequence"]]["spans"]
    policy = Chunked(variant["prefill"]["block_size"], variant["prefill"]["prev_blocks"])
    store = prefilled(decoder, embeds, spans, policy, host=host)
    before = [unrotated(store, layer) for layer in range(len(decoder.layers))]
    mix = mix_of(store, variant)
    assert mix.length == variant["mixed_kv_length"]
    assert store.length == variant["dense_kv_length"]
    rows = expected[f"{name}.kv_rows"].long()
    order = torch.tensor(mix.positions).argsort()
    for layer in range(len(decoder.layers)):
        k, v = (x[:, order][:, rows] for x in mix.unrotated(layer))
        assert_close(k, expected[f"{name}.k.{layer}"], tolerance["kv_abs"], f"keys of layer {layer}")
        assert_close(v, expected[f"{name}.v.{layer}"], tolerance["kv_abs"], f"values of layer {layer}")
    suffix = embeds[spans["video_end"] :]
    logits = suffix_logits(decoder, mix, suffix)
    assert_close(logits, expected[f"{name}.suffix_logits"], tolerance["logits_abs"], "suffix")
    assert continuation(decoder, mix, suffix, 8) == expected[f"{name}.continuation"].tolist()
    for layer, (k, v) in enumerate(before):  # the store is as it was
        assert all(torch.equal(x, y) for x, y in zip(unrotated(store, layer), (k, v), strict=True))
