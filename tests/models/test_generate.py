"""Token generation behind a memory against a fresh pass over everything for every token."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GenerationConfig

from evalkit.models.shared.bilevel import assemble_bilevel, pool
from evalkit.models.shared.generate import Sampler, generate
from evalkit.models.shared.kv_rows import Keys
from evalkit.models.shared.layout import Chunked, Full, Layout, Policy
from evalkit.types import Decoding

from .test_prefill import layouts, policies
from .twin import Sequence, allowed, one_shot, pair, prefilled, sdpa

models = cache(pair)
questions = st.lists(st.lists(st.integers(0, 95), min_size=1, max_size=9), min_size=1, max_size=4)
TOKENS = 6


def afresh(layout: Layout, embeds: torch.Tensor, policy: Policy, ids: list[int], count: int) -> list[int]:
    """Greedy ids, the whole sequence anew for each."""
    ours, theirs = models()
    ids, given = list(ids), len(ids)
    while len(ids) < given + count:
        rows = torch.cat([embeds[: layout.length], ours.embed(torch.tensor(ids))])
        logits = one_shot(theirs, rows, allowed(layout, policy, len(ids))).logits[0, -1]
        ids.append(int(logits.argmax()))
    return ids[given:]


@settings(max_examples=15, deadline=None)
@given(layouts, policies, questions, st.integers(0, 99))
def test_greedy_tokens_are_those_of_a_fresh_prefill(
    layout: Layout, policy: Policy, asked: list[list[int]], seed: int
) -> None:
    ours, _ = models()
    sequence = Sequence.random(layout, 0, 32, seed)
    store = prefilled(ours, sequence, policy)
    decoding = Decoding(max_new_tokens=TOKENS)
    expected = [afresh(layout, sequence.embeds, policy, ids, TOKENS) for ids in asked]
    one_by_one = [generate(ours, sdpa(ours), store, [ids], decoding, ())[0].ids for ids in asked]
    assert one_by_one == expected
    assert [answer.ids for answer in generate(ours, sdpa(ours), store, asked, decoding, ())] == expected


def test_positions_go_on_behind_the_mix() -> None:
    """Decoding from a mix equals reading question and answer in one go."""
    ours, _ = models()
    sequence = Sequence.random(Layout(3, 0, [2] * 6, [8] * 6), 0, 32)
    store = prefilled(ours, sequence, Chunked(2, 1), Keys.UNROTATED)
    mix = assemble_bilevel(store, pool(store, 4), {0, 5})
    ids = [5, 9, 2]
    (answer,) = generate(ours, sdpa(ours), mix, [ids], Decoding(max_new_tokens=TOKENS), ())
    for count in range(TOKENS):
        (again,) = generate(ours, sdpa(ours), mix, [ids + answer.ids[:count]], Decoding(max_new_tokens=1), ())
        assert again.ids == [answer.ids[count]]


def test_stops_at_a_stop_token_or_at_the_limit() -> None:
    ours, _ = models()
    store = prefilled(ours, Sequence.random(Layout(3, 0, [2] * 4, [5] * 4), 0, 32), Full())
    (free,) = generate(ours, sdpa(ours), store, [[1, 2, 3]], Decoding(max_new_tokens=8), ())
    assert free.finish == "length" and len(free.ids) == free.passes == 8
    stop = free.ids[3]
    first = free.ids.index(stop)
    (stopped,) = generate(ours, sdpa(ours), store, [[1, 2, 3]], Decoding(max_new_tokens=8), {stop})
    assert stopped.finish == "stop" and stopped.ids == free.ids[:first] and stopped.passes == first + 1
    assert min(free.question_s, free.generate_s) > 0


def test_a_batch_goes_on_when_one_question_is_done() -> None:
    ours, _ = models()
    store = prefilled(ours, Sequence.random(Layout(3, 0, [2] * 4, [5] * 4), 0, 32), Full())
    asked = [[1, 2, 3], [7, 8, 9, 10]]
    decoding = Decoding(max_new_tokens=8)
    alone = [generate(ours, sdpa(ours), store, [ids], decoding, ())[0].ids for ids in asked]
    stop = next(token for token in alone[0] if token not in alone[1])
    first, second = generate(ours, sdpa(ours), store, asked, decoding, {stop})
    assert first.finish == "stop" and second.finish == "length" and second.ids == alone[1]


def test_sampling_draws_from_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    drawn = Counter(Sampler(Decoding(temperature=1.0, seed=seed), torch.device("cpu"))(logits) for seed in range(2000))
    for token, share in enumerate(logits.softmax(-1).tolist()):
        assert drawn[token] / 2000 == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, {0}), (0.7, {0, 1}), (0.95, {0, 1, 2}), (1.0, {0, 1, 2, 3})])
def test_nucleus(top_p: float, kept: set[int]) -> None:
    logits = torch.tensor([0.64, 0.24, 0.09, 0.03]).log()
    decodings = [Decoding(temperature=1.0, top_p=top_p, seed=seed) for seed in range(400)]
    assert {Sampler(decoding, torch.device("cpu"))(logits) for decoding in decodings} == kept


def test_sampled_answers_do_not_depend_on_what_was_asked_before() -> None:
    ours, _ = models()
    store = prefilled(ours, Sequence.random(Layout(3, 0, [2] * 4, [5] * 4), 0, 32), Full())
    decoding = Decoding(max_new_tokens=8, temperature=1.5, seed=3)
    (first,) = generate(ours, sdpa(ours), store, [[1, 2]], decoding, ())
    generate(ours, sdpa(ours), store, [[4, 4]], decoding, ())
    (again,) = generate(ours, sdpa(ours), store, [[1, 2]], decoding, ())
    assert again.ids == first.ids
    (other,) = generate(ours, sdpa(ours), store, [[1, 2]], Decoding(max_new_tokens=8, temperature=1.5, seed=4), ())
    assert other.ids != first.ids


# Repetition penalty, against transformers' own generate


@pytest.mark.parametrize("penalty", [1.2, 1.5, 0.7])
def test_the_repetition_penalty_is_that_of_transformers_generate(penalty: float) -> None:
    """transformers is given embeddings alone, as the authors' code does, so that it does not know the prompt's ids."""
    ours, theirs = models()
    changed = 0
    for seed in range(6):
        sequence = Sequence.random(Layout(3, 0, [2] * 3, [5] * 3), 0, 32, seed)
        ids = [7, 1, 4]
        store = prefilled(ours, sequence, Full())
        embeds = torch.cat([sequence.embeds, ours.embed(torch.tensor(ids))])[None]
        config = GenerationConfig(max_new_tokens=16, do_sample=False, repetition_penalty=penalty, pad_token_id=0)
        with pytest.warns(UserWarning, match="only to newly generated tokens, not to the prompt"):
            expected = theirs.generate(
                inputs_embeds=embeds,
                attention_mask=torch.ones(embeds.shape[:2], dtype=torch.int64),
                generation_config=config,
            )[0].tolist()
        decoding = Decoding(max_new_tokens=16, repetition_penalty=penalty)
        (found,) = generate(ours, sdpa(ours), store, [ids], decoding, ())
        (plain,) = generate(ours, sdpa(ours), store, [ids], Decoding(max_new_tokens=16), ())
        assert found.ids == expected
        changed += found.ids != plain.ids
    assert changed
