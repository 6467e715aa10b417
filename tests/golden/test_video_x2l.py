"""The two stores of Video-X2L and what is assembled from them for a question, against golden results.

The stores are those of Video-XL at a low and a high ratio; nothing but the choice of pieces is new.
"""

from __future__ import annotations

from itertools import accumulate

import pytest

from evalkit.models.shared.assembled_kv import AssembledKV, Piece
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.videoxl.summary import SUMMARY, SummaryDecoder, SummaryLayout, SummaryPrefill

from .cases import Case, assert_close, find_variants
from .llm import answer, attention_of, suffix_logits
from .test_video_xl import decoder_of

END_RATIO = 2
"""Of the first and the last chunk, in both stores."""


def store_of(case: Case, decoder: SummaryDecoder, ratio: int) -> KVStore[SummaryLayout]:
    """One pass over the whole video; the rows lie in host memory."""
    inputs = case.inputs()
    store = KVStore(decoder, SummaryLayout(), Keys.UNROTATED, host=True)
    prefill = SummaryPrefill(decoder, store, attention_of(decoder), ratio)
    prefill.prefix(decoder.embed(inputs["prefix_ids"].long()))
    windows = inputs["visual_embeds"].split(case.meta["window"])
    for index, window in enumerate(windows):
        prefill.window(window, END_RATIO if index in (0, len(windows) - 1) else None)
    return store


@pytest.mark.parametrize(("case", "name"), find_variants("video_x2l"))
def test_stores_assembled_memory_logits_and_ids(case: Case, name: str) -> None:
    variant, expected, tolerance = case.meta["variants"][name], case.expected(), case.meta["tolerance"]
    decoder = decoder_of(case)
    levels = ("low", "high")
    stores = {level: store_of(case, decoder, case.meta[f"{level}_ratio"]) for level in levels}
    counts = case.meta["summary_tokens_per_chunk"]
    for level, store in stores.items():
        rows = store.rows[SUMMARY]
        assert rows.count == sum(counts[level]) and rows.unrotated is not None
        for layer in range(len(decoder.layers)):
            for what, found in (("k", rows.unrotated), ("v", rows.values)):
                wanted = expected[f"{level}.{what}.{layer}"]
                assert_close(found[layer, :, : rows.count], wanted, tolerance["kv_abs"], f"{level} {what}")

    ends = {level: [0, *accumulate(counts[level])] for level in levels}
    text = stores["low"].rows["text"]
    pieces = [Piece(text, 0, text.count)]
    for chunk in range(case.meta["chunks"]):
        level = "low" if chunk in variant["selected_chunks_counted_from_0"] else "high"
        pieces.append(Piece(stores[level].rows[SUMMARY], ends[level][chunk], ends[level][chunk + 1]))
    length = variant["memory_length"]
    memory = AssembledKV(pieces, range(length), length, decoder.rope)
    last = len(decoder.layers) - 1
    for what, found in zip("kv", memory.unrotated(last), strict=True):
        wanted = expected[f"{name}.{what}.{last}"]
        assert_close(found[:, -wanted.shape[1] :], wanted, tolerance["kv_abs"], what)

    ids = case.inputs()["suffix_ids"].long()
    logits, wanted = suffix_logits(decoder, memory, decoder.embed(ids)), expected[f"{name}.suffix_logits"]
    assert_close(logits[-len(wanted) :], wanted, tolerance["logits_abs"], "suffix")
    assert answer(decoder, memory, ids, 8) == expected[f"{name}.continuation"].tolist()
