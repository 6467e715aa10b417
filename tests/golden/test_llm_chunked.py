"""Chunked prefill against golden results: keys, values, logits, greedy ids, visible pairs."""

from __future__ import annotations

import pytest
import torch

from evalkit.models.shared.cost import attention_density, visible_pairs
from evalkit.models.shared.kv_store import Keys
from evalkit.models.shared.layout import Chunked, Layout

from .cases import Case, assert_close, find_cases, find_variants
from .llm import continuation, decoder_of, prefilled, suffix_logits, unrotated


def layout_of(spans: dict) -> Layout:
    text, visual = zip(*((middle - start, end - middle) for start, middle, end in spans["blocks"]), strict=True)
    return Layout(spans["prefix"], 0, list(text), list(visual))


@pytest.mark.parametrize("host", [False, True], ids=["resident", "host"])
@pytest.mark.parametrize("keys", [Keys.UNROTATED, Keys.UNROTATED | Keys.ROTATED], ids=["late rotation", "both"])
@pytest.mark.parametrize("step_rows", [1, 300])
@pytest.mark.parametrize(("case", "name"), find_variants("llm_chunked"))
def test_keys_values_logits_and_ids(case: Case, name: str, step_rows: int, keys: Keys, host: bool) -> None:
    variant, tolerance = case.meta["variants"][name], case.meta["tolerance"]
    decoder, expected = decoder_of(case), case.expected()
    embeds, spans = case.inputs()[variant["inputs"]], case.meta["sequences"][variant["sequence"]]["spans"]
    policy = Chunked(variant["block_size"], variant["prev_blocks"])
    store = prefilled(decoder, embeds, spans, policy, keys, host, step_rows)
    rows = expected[f"{name}.kv_rows"].long()
    for layer in range(len(decoder.layers)):
        k, v = unrotated(store, layer)
        assert_close(k[:, rows], expected[f"{name}.k.{layer}"], tolerance["kv_abs"], f"keys of layer {layer}")
        assert_close(v[:, rows], expected[f"{name}.v.{layer}"], tolerance["kv_abs"], f"values of layer {layer}")
    suffix = embeds[spans["video_end"] :]
    logits = suffix_logits(decoder, store, suffix)
    assert_close(logits, expected[f"{name}.suffix_logits"], tolerance["logits_abs"], "suffix")
    assert continuation(decoder, store, suffix, 8) == expected[f"{name}.continuation"].tolist()


@pytest.mark.parametrize(("case", "name"), find_variants("llm_chunked"))
def test_chunks_and_density(case: Case, name: str) -> None:
    variant = case.meta["variants"][name]
    spans = case.meta["sequences"][variant["sequence"]]["spans"]
    layout, policy = layout_of(spans), Chunked(variant["block_size"], variant["prev_blocks"])
    density = attention_density(layout, policy, spans["total"] - spans["video_end"])
    assert abs(density - variant["mask_density"]) < 1e-12
    assert [layout.starts[chunk[0]] for chunk in layout.chunks(policy.chunk_groups)] == variant["chunk_starts"]


@pytest.mark.parametrize("case", find_cases("llm_chunked"))
def test_visible_pairs_are_those_of_the_masks(case: Case) -> None:
    spans = case.meta["small_mask_sequence"]["spans"]
    layout, suffix = layout_of(spans), spans["total"] - spans["video_end"]
    for name, mask in case.meta["small_masks"].items():
        policy = Chunked(mask["block_size"], mask["prev_blocks"])
        allowed = case.expected()[f"{name}.allowed"]
        assert visible_pairs(layout, policy, suffix) == int(allowed.sum())
        assert abs(attention_density(layout, policy, suffix) - mask["density"]) < 1e-12
        assert torch.equal(allowed.bool(), allowed.bool().tril())
