"""The language model under plain causal attention, against golden results."""

from __future__ import annotations

import pytest
import torch

from evalkit.models.shared.attention import attend
from evalkit.models.shared.layout import Full

from .cases import Case, assert_close, find_cases
from .llm import attention_of, continuation, decoder_of, prefilled, suffix_logits


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("case", find_cases("llm_pure"))
@torch.inference_mode()
def test_hidden_states_of_every_layer(case: Case, attention: str) -> None:
    decoder, expected, tolerance = decoder_of(case), case.expected(), case.meta["tolerance"]
    x = case.inputs()["inputs_embeds"]
    kernel = attention_of(decoder, attention)
    rotation = decoder.rope.at(torch.arange(len(x)))
    for layer in range(len(decoder.layers)):
        x = decoder.block(layer, x, rotation, lambda _, q, unrotated, k, v: attend(kernel, q, [], (k, v)).out)
        if layer < len(decoder.layers) - 1:
            assert_close(x, expected[f"hidden_after_layer_{layer}"], tolerance["hidden_abs"], f"layer {layer}")
    assert_close(decoder.norm(x), expected["hidden_after_final_norm"], tolerance["hidden_abs"], "final norm")
    assert_close(decoder.logits(x[-1]), expected["last_logits"], tolerance["logits_abs"], "last logits")


@pytest.mark.parametrize("case", find_cases("llm_pure"))
def test_question_behind_a_stored_context(case: Case) -> None:
    decoder, expected = decoder_of(case), case.expected()
    embeds, spans = case.inputs()["inputs_embeds"], case.meta["sequence"]["spans"]
    store = prefilled(decoder, embeds, spans, Full())
    suffix = embeds[spans["video_end"] :]
    logits = suffix_logits(decoder, store, suffix)
    assert_close(logits, expected["suffix_logits"], case.meta["tolerance"]["logits_abs"], "suffix")
    assert continuation(decoder, store, suffix, 8) == expected["continuation"].tolist()
