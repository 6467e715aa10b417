"""Summary tokens of Video-XL against golden results: keys, values, logits, greedy ids."""

from __future__ import annotations

import pytest
from transformers import Qwen2Config

from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.videoxl.summary import SUMMARY, SummaryDecoder, SummaryLayout, SummaryPrefill

from .cases import Case, assert_close, find_variants
from .llm import answer, attention_of, suffix_logits


def decoder_of(case: Case) -> SummaryDecoder:
    dims = dict(case.meta["dims"])
    dims["rope_parameters"] = {"rope_type": "default", "rope_theta": dims.pop("rope_theta")}
    decoder = SummaryDecoder(Qwen2Config(**dims))
    decoder.load_state_dict({key.removeprefix("model."): value for key, value in case.weights().items()})
    return decoder.eval().requires_grad_(False)


@pytest.mark.parametrize("keys", [Keys.UNROTATED, Keys.UNROTATED | Keys.ROTATED], ids=["late rotation", "both"])
@pytest.mark.parametrize("host", [False, True], ids=["resident", "host"])
@pytest.mark.parametrize(("case", "name"), find_variants("video_xl"))
def test_summaries_logits_and_ids(case: Case, name: str, host: bool, keys: Keys) -> None:
    variant, expected, tolerance = case.meta["variants"][name], case.expected(), case.meta["tolerance"]
    decoder, inputs = decoder_of(case), case.inputs()
    store = KVStore(decoder, SummaryLayout(), keys, host)
    prefill = SummaryPrefill(decoder, store, attention_of(decoder), variant["ratio"])
    prefill.prefix(decoder.embed(inputs["prefix_ids"].long()))
    for window, count in zip(
        inputs["visual_embeds"].split(case.meta["window"]), variant["summary_tokens_per_window"], strict=True
    ):
        before = store.layout.summaries
        prefill.window(window)
        assert store.layout.summaries - before == count
    assert store.length == variant["memory_length"]
    for kind, prefix in ((SUMMARY, f"{name}."), ("text", "prefix.")):
        rows = store.rows[kind]
        assert rows.unrotated is not None
        for layer in range(len(decoder.layers)):
            for what, found in (("k", rows.unrotated), ("v", rows.values)):
                assert_close(
                    found[layer, :, : rows.count], expected[f"{prefix}{what}.{layer}"], tolerance["kv_abs"], what
                )
    ids = inputs[variant["suffix"]].long()
    logits = suffix_logits(decoder, store, decoder.embed(ids))
    wanted = expected[f"{name}.suffix_logits"]
    assert_close(logits[-len(wanted) :], wanted, tolerance["logits_abs"], "suffix")
    assert answer(decoder, store, ids, 8) == expected[f"{name}.continuation"].tolist()
