"""Streaming prefill against one masked pass over the whole sequence (`twin`)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from evalkit.errors import ModelError
from evalkit.models.shared.attention import Eager, SdpaCpu
from evalkit.models.shared.cost import attention_density, causal_pairs, visible_pairs
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.kv_store import KVStore
from evalkit.models.shared.layout import TEXT, VISUAL, Chunked, Full, Layout, Policy, Streaming
from evalkit.models.shared.prefill import Prefill

from .test_qwen2 import EagerAtEnd
from .twin import Sequence, allowed, answered, in_order, one_shot, pair, prefilled, sdpa, worst

TOLERANCE = 1e-5 * 3  # of values of magnitude 5 to 10
models = cache(pair)

even = st.builds(
    lambda groups, text, visual: (groups * [text], groups * [visual]),
    st.integers(1, 12),
    st.integers(1, 9),
    st.integers(1, 12),
)
uneven = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)).filter(any), max_size=12).map(
    lambda groups: ([text for text, _ in groups], [visual for _, visual in groups])
)
layouts = st.builds(
    lambda prefix, groups, tail: Layout(prefix, tail if groups[0] else 0, *groups),
    st.integers(1, 9),
    even | uneven,
    st.sampled_from([0, 0, 5]),
)
policies: st.SearchStrategy[Policy] = st.just(Full()) | st.builds(
    lambda rule, *window: rule(*window), st.sampled_from([Chunked, Streaming]), st.integers(1, 5), st.integers(0, 4)
)


def check(sequence: Sequence, policy: Policy, **how: Any) -> None:
    """Keys and values of every layer and position, and logits of the question, are those of the masked pass."""
    ours, theirs = models()
    expected = one_shot(theirs, sequence.embeds, allowed(sequence.layout, policy, sequence.suffix))
    store = prefilled(ours, sequence, policy, **how)
    assert store.layout == sequence.layout
    for layer, theirs_layer in enumerate(expected.past_key_values.layers):
        end = sequence.layout.length
        assert worst(in_order(store, layer, "rotated"), theirs_layer.keys[0, :, :end]) < TOLERANCE
        assert worst(in_order(store, layer, "values"), theirs_layer.values[0, :, :end]) < TOLERANCE
    assert worst(answered(ours, store, sequence.question), expected.logits[0, end:]) < TOLERANCE


@settings(max_examples=60, deadline=None)
@given(layouts, policies, st.integers(1, 6), st.sampled_from([1, 20, 64, 1000]), st.integers(0, 99))
def test_equals_one_masked_pass(layout: Layout, policy: Policy, suffix: int, step_rows: int, seed: int) -> None:
    check(Sequence.random(layout, suffix, 32, seed), policy, step_rows=step_rows)


@settings(max_examples=20, deadline=None)
@given(layouts, policies, st.sampled_from([1, 40, 1000]), st.sampled_from([Eager(), EagerAtEnd()]))
def test_any_kernel(layout: Layout, policy: Policy, step_rows: int, attention: Eager) -> None:
    check(Sequence.random(layout, 3, 32), policy, step_rows=step_rows, attention=attention)


@pytest.mark.parametrize("groups", [1, 3, 4, 5, 8, 11])
@pytest.mark.parametrize("policy", [Chunked(4, 0), Chunked(4, 1), Chunked(1, 0), Chunked(3, 3)], ids=str)
def test_ragged_last_chunk(policy: Chunked, groups: int) -> None:
    check(Sequence.random(Layout(3, 0, [2] * groups, [5] * groups), 4, 32), policy)


@pytest.mark.parametrize("previous", [3, 4, 100])
def test_a_window_over_everything_is_full_attention(previous: int) -> None:
    ours, _ = models()
    sequence = Sequence.random(Layout(3, 0, [2] * 13, [6] * 13), 5, 32)
    full = answered(ours, prefilled(ours, sequence, Full()), sequence.question)
    assert worst(answered(ours, prefilled(ours, sequence, Chunked(4, previous)), sequence.question), full) < TOLERANCE
    assert worst(answered(ours, prefilled(ours, sequence, Chunked(4, 1)), sequence.question), full) > 0.01


def test_context_without_a_question() -> None:
    """What is prefilled does not depend on what follows."""
    ours, theirs = models()
    layout = Layout(3, 0, [2] * 5, [6] * 5)
    whole = Sequence.random(layout, 9, 32)
    joint = one_shot(theirs, whole.embeds, allowed(layout, Chunked(2, 1), 9)).past_key_values.layers
    store = prefilled(ours, whole, Chunked(2, 1))
    for layer in range(3):
        assert worst(in_order(store, layer, "rotated"), joint[layer].keys[0, :, : layout.length]) < TOLERANCE


def test_what_lies_outside_the_window_reaches_visual_tokens_through_text_alone() -> None:
    ours, _ = models()
    layout, policy = Layout(3, 0, [2] * 8, [6] * 8), Chunked(2, 1)
    sequence = Sequence.random(layout, 1, 32)
    before = prefilled(ours, sequence, policy)
    sequence.embeds = sequence.embeds.clone()
    sequence.embeds[layout.starts[0] + 2] += 1.0  # a visual token of group 0, chunk 0
    after = prefilled(ours, sequence, policy)
    changed = [
        (in_order(before, layer, "values") != in_order(after, layer, "values")).any(0).any(-1) for layer in range(3)
    ]
    visual, text = torch.tensor(layout.visual_positions()), torch.tensor(layout.text_positions())
    outside = visual[visual >= layout.starts[4]]  # chunks 2 and 3
    inside = visual[(visual > layout.starts[0] + 2) & (visual < layout.starts[4])]
    later = text[text >= layout.starts[1]]
    assert not changed[1][outside].any()  # exactly equal behind the first layer
    assert changed[1][inside].all() and changed[1][later].all()
    assert changed[2][outside].all()  # two hops


def test_streaming_reads_no_visual_token_that_has_left_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is full attention as long as nothing has left it."""
    ours, _ = models()
    read, oldest = KVStore.read, []

    def watched(self: KVStore, rows: Any, layer: int, start: int, end: int) -> Any:
        if rows == VISUAL and end > start:
            oldest.append(self.rows[VISUAL].count - start)
        return read(self, rows, layer, start, end)

    monkeypatch.setattr(KVStore, "read", watched)
    sequence = Sequence.random(Layout(3, 0, [2] * 20, [6] * 20), 1, 32)
    prefilled(ours, sequence, Streaming(2, 1), step_rows=16)
    assert max(oldest) == 2 * 6
    oldest.clear()
    prefilled(ours, sequence, Chunked(2, 1), step_rows=16)
    assert max(oldest) > 15 * 6
    short = Sequence.random(Layout(3, 0, [2] * 4, [6] * 4), 5, 32)
    full, streaming = (answered(ours, prefilled(ours, short, p), short.question) for p in (Full(), Streaming(2, 1)))
    assert worst(full, streaming) < TOLERANCE


@settings(max_examples=100, deadline=None)
@given(layouts, policies, st.integers(0, 5))
def test_visible_pairs(layout: Layout, policy: Policy, suffix: int) -> None:
    mask = allowed(layout, policy, suffix)
    assert visible_pairs(layout, policy, suffix) == int(mask.sum())
    assert attention_density(layout, policy, suffix) == int(mask.sum()) / causal_pairs(len(mask))


@pytest.mark.parametrize(
    ("frames", "policy", "density"),
    [
        (256, Chunked(4, 3), 0.47),
        (300, Chunked(4, 3), 0.43),
        (400, Chunked(4, 3), 0.36),
        (400, Chunked(6, 5), 0.61),
        (600, Chunked(4, 11), 0.58),
        (2048, Chunked(4, 3), 0.17),
        (10000, Chunked(4, 3), 0.135),
        (1300, Streaming(4, 1), 0.102),
        (10000, Streaming(4, 1), 0.07),
    ],
)
def test_density_of_the_published_settings(frames: int, policy: Chunked, density: float) -> None:
    times = [4.0 * group for group in range(frames // 4)]
    layout = Layout(14, 0, [4 + len(str(time)) for time in times], [144] * len(times))
    question = 150  # a multiple-choice question and its instructions
    assert attention_density(layout, policy, question) == pytest.approx(density, abs=0.006)


def test_groups_are_taken_as_they_come() -> None:
    """No more than a step and one group wait."""
    ours, _ = models()
    sequence = Sequence.random(Layout(3, 0, [2] * 40, [6] * 40), 1, 32)
    store = KVStore(ours, Layout())
    prefill = Prefill(ours, store, Chunked(2, 1), sdpa(ours), step_rows=33)
    prefill.text(sequence.embeds[:3])
    waiting = []

    def watched() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for index, group in enumerate(sequence.groups()):
            waiting.append(index - store.layout.groups)
            yield group

    prefill.groups(watched())
    assert max(waiting) <= 33 // 8 + 1
    assert store.layout == sequence.layout


class Largest(TorchDispatchMode):
    """Numbers in the largest tensor that any operation makes."""

    numbers = 0

    def __init__(self, store: KVStore) -> None:
        super().__init__()
        kept = (
            store.rows[TEXT].values,
            store.rows[TEXT].rotated,
            store.rows[VISUAL].values,
            store.rows[VISUAL].rotated,
        )
        self.kept = {tensor.untyped_storage().data_ptr() for tensor in kept if tensor is not None}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.kept:
                self.numbers = max(self.numbers, tensor.numel())
        return out


def test_no_tensor_is_larger_than_what_a_chunk_sees() -> None:
    """But the store, made beforehand. In particular there is no mask and there are no scores over the history. 1,536
    numbers are the activations of a step."""
    ours, _ = models()

    def largest(groups: int) -> int:
        sequence = Sequence.random(Layout(3, 0, [2] * groups, [6] * groups), 1, 32)
        store = KVStore(ours, Layout())
        store.reserve(sequence.layout)
        prefill = Prefill(ours, store, Chunked(2, 1), SdpaCpu(), step_rows=32)
        with Largest(store) as seen:
            prefill.text(sequence.embeds[:3])
            prefill.groups(sequence.groups())
        return seen.numbers

    for groups in (20, 200, 1000):
        seen_by_a_chunk = 3 + 2 * groups + 2 * 2 * 6  # text of the whole video, visual tokens of two chunks
        assert largest(groups) <= max(16 * seen_by_a_chunk, 1536)


class Cramped(SdpaCpu):
    """Runs out of memory above so many rows."""

    def __init__(self, rows: int) -> None:
        self.rows, self.failures = rows, 0

    def __call__(self, q: Any, k: Any, v: Any, causal: bool = False) -> Any:
        if q.shape[1] > self.rows:
            self.failures += 1
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().__call__(q, k, v, causal)


def test_smaller_steps_where_memory_runs_out() -> None:
    attention = Cramped(20)
    check(Sequence.random(Layout(3, 0, [2] * 20, [6] * 20), 4, 32), Chunked(4, 1), step_rows=1000, attention=attention)
    assert 1 <= attention.failures <= 5  # what was learnt is kept


def test_memory_that_is_too_small_for_one_group() -> None:
    ours, _ = models()
    sequence = Sequence.random(Layout(3, 0, [2] * 20, [6] * 20), 1, 32)
    with pytest.raises(ModelError, match=r"kv_store\.device=cpu") as raised:
        prefilled(ours, sequence, Chunked(4, 1), attention=Cramped(7))
    assert raised.value.kind == "out_of_memory"


def test_other_errors_stay_what_they_are() -> None:
    class Broken(SdpaCpu):
        def __call__(self, q: Any, k: Any, v: Any, causal: bool = False) -> Any:
            raise RuntimeError("shapes do not fit")

    ours, _ = models()
    with pytest.raises(RuntimeError, match="shapes"):
        prefilled(ours, Sequence.random(Layout(3, 0, [2], [6]), 1, 32), Full(), attention=Broken())


def test_policies_print_themselves_and_check_their_values() -> None:
    assert repr(Chunked(4, 3)) == "Chunked(chunk_groups=4, previous_chunks=3)" and repr(Full()) == "Full()"
    for wrong in ((0, 1), (4, -1)):
        with pytest.raises(ValueError, match="at least"):
            Chunked(*wrong)


def test_key_forms_agree() -> None:
    ours, _ = models()
    sequence = Sequence.random(Layout(3, 2, [2] * 9, [6] * 9), 4, 32)
    both = prefilled(ours, sequence, Chunked(2, 1), Keys.ROTATED | Keys.UNROTATED)
    late = prefilled(ours, sequence, Chunked(2, 1), Keys.UNROTATED)
    for layer in range(3):
        assert torch.equal(in_order(both, layer, "unrotated"), in_order(late, layer, "unrotated"))
