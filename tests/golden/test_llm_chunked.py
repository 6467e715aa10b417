"""Chunked prefill, by both rules, against golden results: keys, values, logits, greedy ids, visible pairs."""

from __future__ import annotations

import pytest
import torch

from evalkit.models.shared.cost import attention_density, visible_pairs
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.layout import Chunked, Layout, Policy, Streaming

from .cases import Case, assert_close, find_cases, find_variants
from .llm import continuation, decoder_of, prefilled, suffix_logits, unrotated

VARIANTS = [*find_variants("llm_chunked"), *find_variants("llm_streaming")]


def policy_of(case: Case, variant: dict) -> Policy:
    rule = Streaming if case.kind == "llm_streaming" else Chunked
    return rule(variant["block_size"], variant["prev_blocks"])


def layout_of(spans: dict) -> Layout:
    text, visual = zip(*((middle - start, end - middle) for start, middle, end in spans["blocks"]), strict=True)
    return Layout(spans["prefix"], 0, list(text), list(visual))


@pytest.mark.parametrize("host", [False, True], ids=["resident", "host"])
@pytest.mark.parametrize("keys", [Keys.UNROTATED, Keys.UNROTATED | Keys.ROTATED], ids=["late rotation", "both"])
@pytest.mark.parametrize("step_rows", [1, 300])
@pytest.mark.parametrize(("case", "name"), VARIANTS)
def test_keys_values_logits_and_ids(case: Case, name: str, step_rows: int, keys: Keys, host: bool) -> None:
    variant, tolerance = case.meta["variants"][name], case.meta["tolerance"]
    decoder, expected = decoder_of(case), case.expected()
    embeds, spans = case.inputs()[variant["inputs"]], case.meta["sequences"][variant["sequence"]]["spans"]
    policy = policy_of(case, variant)
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


@pytest.mark.parametrize(("case", "name"), VARIANTS)
def test_chunks_and_density(case: Case, name: str) -> None:
    variant = case.meta["variants"][name]
    spans = case.meta["sequences"][variant["sequence"]]["spans"]
    layout, policy = layout_of(spans), policy_of(case, variant)
    suffix = spans["total"] - spans["video_end"]
    assert abs(attention_density(layout, policy, suffix) - variant["mask_density"]) < 1e-12
    assert visible_pairs(layout, policy, suffix) == variant.get("visible_pairs", visible_pairs(layout, policy, suffix))
    starts = [layout.starts[chunk[0]] for chunk in layout.chunks(variant["block_size"])]
    assert starts == variant.get("chunk_starts", starts)


@pytest.mark.parametrize("case", [*find_cases("llm_chunked"), *find_cases("llm_streaming")])
def test_visible_pairs_are_those_of_the_masks(case: Case) -> None:
    spans = case.meta["small_mask_sequence"]["spans"]
    layout, suffix = layout_of(spans), spans["total"] - spans["video_end"]
    for name, mask in case.meta["small_masks"].items():
        policy = policy_of(case, mask)
        allowed = case.expected()[f"{name}.allowed"]
        assert visible_pairs(layout, policy, suffix) == int(allowed.sum())
        assert abs(attention_density(layout, policy, suffix) - mask["density"]) < 1e-12
        assert torch.equal(allowed.bool(), allowed.bool().tril())
