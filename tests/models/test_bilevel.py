"""Bi-level mixes against a slow version that builds them row by row."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.models.shared.bilevel import assemble_bilevel, bilevel_layout, pool
from evalkit.models.shared.cost import mixed_rows
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import TEXT, VISUAL, Chunked, Full, Layout
from evalkit.models.shared.qwen2 import rotate

from .test_prefill import layouts
from .twin import Sequence, answered, in_order, pair, prefilled, worst

models = cache(pair)
KEPT = Keys.UNROTATED


def row_by_row(store: KVStore, compression: int, dense: set[int], layer: int, what: str) -> Tensor:
    """The mix in the order of the sequence: every row appended by itself."""
    source, rows, layout, at = in_order(store, layer, what), [], store.layout, 0
    rows += [source[:, at + i] for i in range(layout.prefix)]
    at = layout.prefix
    for group, (text, visual) in enumerate(zip(layout.text, layout.visual, strict=True)):
        rows += [source[:, at + i] for i in range(text)]
        at += text
        if group in dense:
            rows += [source[:, at + i] for i in range(visual)]
        else:
            for i in range(visual // compression):
                rows.append(source[:, at + i * compression : at + (i + 1) * compression].mean(1))
        at += visual
    rows += [source[:, at + i] for i in range(layout.tail)]
    return torch.stack(rows, 1)


@settings(max_examples=60, deadline=None)
@given(layouts, st.integers(1, 5), st.sets(st.integers(0, 11)), st.booleans(), st.integers(0, 99))
def test_equals_the_mix_built_row_by_row(
    layout: Layout, compression: int, dense: set[int], host: bool, seed: int
) -> None:
    assume(layout.groups)
    ours, _ = models()
    dense = {group for group in dense if group < layout.groups}
    sequence = Sequence.random(layout, 3, 32, seed)
    store = prefilled(ours, sequence, Chunked(2, 1), KEPT, host)
    mix = assemble_bilevel(store, pool(store, compression), dense)
    mixed = bilevel_layout(layout, compression, dense)
    assert mix.length == mixed.length == mixed_rows(layout, compression, dense)
    assert mix.nbytes == ours.size.kv_bytes(mix.length, 4)
    order = torch.tensor(mix.positions).argsort()
    rotation = ours.rope.at(torch.arange(mix.length))
    for layer in range(3):
        keys, values = (x[:, order] for x in mix.unrotated(layer))
        assert worst(keys, row_by_row(store, compression, dense, layer, "unrotated")) < 1e-6
        assert worst(values, row_by_row(store, compression, dense, layer, "values")) < 1e-6
        assert worst(mix.keys[layer][:, order], rotate(keys, rotation)) < 1e-6  # positions 0 .. n-1
        assert torch.equal(mix.values[layer][:, order], values)


LAYOUT = Layout(3, 2, [2, 3, 2, 2, 4, 2, 2], [8] * 7)


@pytest.mark.parametrize("compression", [1, 2, 4, 8])
@pytest.mark.parametrize("policy", [Full(), Chunked(2, 1)], ids=str)
def test_nothing_pooled_is_dense(policy: Full | Chunked, compression: int) -> None:
    ours, _ = models()
    sequence = Sequence.random(LAYOUT, 5, 32)
    store = prefilled(ours, sequence, policy, KEPT)
    expected = answered(ours, store, sequence.question)
    everything = assemble_bilevel(store, pool(store, compression), range(7))
    assert worst(answered(ours, everything, sequence.question), expected) < 2e-5
    uncompressed = assemble_bilevel(store, pool(store, 1), {0, 6})
    assert worst(answered(ours, uncompressed, sequence.question), expected) < 2e-5
    if compression > 1:
        assert (
            worst(
                answered(ours, assemble_bilevel(store, pool(store, compression), {0, 6}), sequence.question), expected
            )
            > 0.01
        )


def test_pooling_comes_before_rotation() -> None:
    ours, _ = models()
    sequence = Sequence.random(LAYOUT, 5, 32)
    store = prefilled(ours, sequence, Full(), Keys.UNROTATED | Keys.ROTATED)
    mix = assemble_bilevel(store, pool(store, 4), {0, 6})
    right = answered(ours, mix, sequence.question)
    rotated_first = pool(store, 4)
    rotated = store.rows[VISUAL].rotated
    assert rotated is not None
    rotated_first.rows.unrotated = rotated[:, :, : store.rows[VISUAL].count].unflatten(2, (-1, 4)).mean(3)
    assert worst(answered(ours, assemble_bilevel(store, rotated_first, {0, 6}), sequence.question), right) > 0.01


def test_pooling_commutes_with_the_layout_of_heads() -> None:
    ours, _ = models()
    store = prefilled(ours, Sequence.random(LAYOUT, 1, 32), Full(), KEPT)
    flat = store.rows[VISUAL].values[0, :, : store.rows[VISUAL].count].transpose(0, 1).flatten(1)  # [rows, heads * d]
    pooled = flat.unflatten(0, (-1, 4)).mean(1).unflatten(1, (2, 8)).transpose(0, 1)
    assert worst(pool(store, 4).rows.values[0], pooled) < 1e-6


def test_text_is_never_pooled() -> None:
    ours, _ = models()
    store = prefilled(ours, Sequence.random(LAYOUT, 1, 32), Chunked(2, 1), KEPT)
    mix = assemble_bilevel(store, pool(store, 8), ())
    text = store.rows[TEXT].count
    mixed = bilevel_layout(LAYOUT, 8, ())
    assert mixed.text == LAYOUT.text and mixed.visual == [1] * 7
    assert torch.equal(mix.values[:, :, :text], store.rows[TEXT].values[:, :, :text])


def test_half_precision_means_are_taken_in_float32() -> None:
    half = pair()[0].to(torch.bfloat16)
    sequence = Sequence.random(LAYOUT, 1, 32)
    sequence.embeds = sequence.embeds.to(torch.bfloat16)
    store = prefilled(half, sequence, Full(), KEPT)
    pooled = pool(store, 8)
    exact = store.rows[VISUAL].values[:, :, : store.rows[VISUAL].count].float().unflatten(2, (-1, 8)).mean(3)
    assert pooled.rows.values.dtype == torch.bfloat16 and torch.equal(pooled.rows.values, exact.to(torch.bfloat16))


@pytest.mark.parametrize("dense", [{0, 6}, {0, 2, 3, 6}, set(range(7))])
def test_the_formula_of_kv_rows(dense: set[int]) -> None:
    rows = sum(8 + text if g in dense else 8 // 4 + text for g, text in enumerate(LAYOUT.text)) + 3 + 2
    assert mixed_rows(LAYOUT, 4, dense) == rows
