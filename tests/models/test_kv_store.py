"""The KV store: what it holds, where it lies, how it grows."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.models.shared.attention import SdpaCpu
from evalkit.models.shared.cost import LanguageSize
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import TEXT, VISUAL, Chunked, Full, Layout
from evalkit.models.shared.prefill import Prefill

from .test_prefill import layouts
from .twin import Sequence, answered, in_order, pair, prefilled, sdpa, worst

models = cache(pair)
LAYOUT = Layout(3, 2, [2] * 9, [6] * 9)


@pytest.mark.parametrize("policy", [Full(), Chunked(2, 1)], ids=str)
@pytest.mark.parametrize("keys", [Keys.ROTATED, Keys.UNROTATED, Keys.ROTATED | Keys.UNROTATED], ids=str)
def test_host_memory_gives_the_same_logits(keys: Keys, policy: Full | Chunked) -> None:
    ours, _ = models()
    sequence = Sequence.random(LAYOUT, 5, 32)
    stores = [prefilled(ours, sequence, policy, keys, host) for host in (False, True)]
    resident, host = (answered(ours, store, sequence.question) for store in stores)
    assert torch.equal(resident, host)
    assert stores[1].nbytes == stores[0].nbytes


def test_host_memory_is_copied_before_it_is_read() -> None:
    ours, _ = models()
    sequence = Sequence.random(LAYOUT, 5, 32)
    for host in (False, True):
        store = prefilled(ours, sequence, Full(), host=host)
        kept = store.rows[VISUAL].values.untyped_storage().data_ptr()
        shared = [v.untyped_storage().data_ptr() == kept for _, v in store.blocks(VISUAL, 0, 0, 9)]
        assert shared == [not host]


def test_late_rotation_is_the_same_rotation() -> None:
    ours, _ = models()
    sequence = Sequence.random(LAYOUT, 5, 32)
    store = prefilled(ours, sequence, Chunked(2, 1), Keys.ROTATED | Keys.UNROTATED)
    for rows in store.rows.values():
        assert rows.rotated is not None
    early = [[k.clone() for k, _ in store.parts(layer)] for layer in range(3)]
    logits = answered(ours, store, sequence.question)
    store.forget_rotated()
    for layer in range(3):
        assert all(torch.equal(a, b) for a, (b, _) in zip(early[layer], store.parts(layer), strict=True))
    assert torch.equal(answered(ours, store, sequence.question), logits)


@settings(max_examples=30, deadline=None)
@given(layouts, st.sampled_from([1, 30, 1000]))
def test_bytes_are_those_of_the_rows(layout: Layout, step_rows: int) -> None:
    ours, _ = models()
    sequence = Sequence.random(layout, 1, 32)
    per_row = 3 * 2 * 8 * 4  # layers, heads, width of a head, float32
    for keys, kept in ((Keys.ROTATED, 2), (Keys.UNROTATED, 2), (Keys.ROTATED | Keys.UNROTATED, 3)):
        store = prefilled(ours, sequence, Chunked(2, 1), keys, step_rows=step_rows)
        assert store.nbytes == kept * per_row * layout.length
    store.forget_rotated()
    assert store.nbytes == ours.size.kv_bytes(layout.length, 4) == 2 * per_row * layout.length


def test_released_size_takes_56_kib_a_token() -> None:
    released = LanguageSize(3584, 18944, 28, 28, 4, 128, 152064)
    assert released.kv_bytes(1, 2) == 56 * 1024


def test_growth_copies_a_bounded_number_of_times_each_row() -> None:
    ours, _ = models()
    store = KVStore(ours, Layout())
    copied = 0
    grown = store.rows[VISUAL]._grown

    def counting(old: Tensor, capacity: int) -> Tensor:
        nonlocal copied
        copied += store.rows[VISUAL].count
        return grown(old, capacity)

    store.rows[VISUAL]._grown = counting  # type: ignore[method-assign]
    sequence = Sequence.random(Layout(1, 0, [0] * 500, [2] * 500), 1, 32)
    Prefill(ours, store, Chunked(1, 0), sdpa(ours), step_rows=2).groups(sequence.groups())
    assert store.rows[VISUAL].count == 1000
    assert copied / 2 <= 3 * 1000  # values and keys; growing step by step would copy 250,000


def test_room_is_made_once_where_the_context_is_known() -> None:
    ours, _ = models()
    sequence = Sequence.random(LAYOUT, 1, 32)
    store = KVStore(ours, Layout())
    store.reserve(sequence.layout)
    assert (store.rows[TEXT].capacity, store.rows[VISUAL].capacity) == (LAYOUT.text_tokens, LAYOUT.visual_tokens)
    before = store.rows[VISUAL].values.data_ptr()
    prefill = Prefill(ours, store, Full(), sdpa(ours), 20)
    prefill.text(sequence.embeds[:3])
    prefill.groups(sequence.groups())
    assert store.rows[VISUAL].values.data_ptr() == before


class FailsAt(SdpaCpu):
    """Raises at one of its calls."""

    def __init__(self, call: int) -> None:
        self.left = call

    def __call__(self, q: Any, k: Any, v: Any, causal: bool = False) -> Any:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("power cut")
        return super().__call__(q, k, v, causal)


@pytest.mark.parametrize("call", [1, 2, 5, 9, 14])
def test_a_step_that_fails_leaves_the_store_as_it_was(call: int) -> None:
    ours, _ = models()
    sequence = Sequence.random(LAYOUT, 5, 32)
    store = KVStore(ours, Layout())
    prefill = Prefill(ours, store, Chunked(2, 1), FailsAt(call), 33)
    prefill.attention.left += 2  # the prefix
    prefill.text(sequence.embeds[:3])
    with pytest.raises(RuntimeError, match="power cut"):
        prefill.groups(sequence.groups())
    done = store.layout.groups
    prefill.groups(list(sequence.groups())[done:])
    prefill.text(sequence.embeds[LAYOUT.length - 2 : LAYOUT.length])
    expected = prefilled(ours, sequence, Chunked(2, 1))
    assert store.layout == expected.layout
    for layer in range(3):
        assert worst(in_order(store, layer, "rotated"), in_order(expected, layer, "rotated")) < 1e-5


def test_questions_leave_the_store_as_it_was() -> None:
    ours, _ = models()
    sequence = Sequence.random(LAYOUT, 5, 32)
    store = prefilled(ours, sequence, Chunked(2, 1))
    before = [in_order(store, layer, what).clone() for layer in range(3) for what in ("rotated", "values")]
    first = answered(ours, store, sequence.question)
    answered(ours, store, torch.randn(9, 32))
    assert torch.equal(answered(ours, store, sequence.question), first)
    after = [in_order(store, layer, what) for layer in range(3) for what in ("rotated", "values")]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
