"""One prefill for all questions of a video gives the replies of a fresh pass, for every family; where it would not, it
is off."""

from __future__ import annotations

import importlib.util

import pytest
import torch

if importlib.util.find_spec("torchvision") is None:
    pytest.skip("the video processors of transformers need torchvision", allow_module_level=True)

from evalkit.models.hf_vlm import HFVLM, adapter, reuse
from evalkit.models.hf_vlm.reuse import Generated, PositionState, compare
from evalkit.types import Decoding, Prompt, Reply

from .clips import DECODING, PROMPTS, by_transformers, context, model
from .tiny import FAMILIES, checkpoint

M_ROPE = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")


@pytest.mark.parametrize("family", FAMILIES)
def test_replies_are_those_of_a_fresh_pass(family: str) -> None:
    made = model(family)
    videos = [(count, seed) for count, seed in ((6, 0), (9, 1))]
    expected = [[by_transformers(family, context(*video), prompt) for prompt in PROMPTS] for video in videos]
    assert len({text for texts in expected for text in texts}) > 3  # replies depend on what is read
    caches = [made.prefill(context(*video)) for video in videos]
    for order in (PROMPTS, PROMPTS[::-1]):  # the videos take turns
        replies = {(v, p.text): made.generate(c, p, DECODING) for p in order for v, c in enumerate(caches)}
        assert [[replies[v, p.text].text for p in PROMPTS] for v in range(2)] == expected
    assert made.reuse is not None and made.reuse.right
    assert "the same tokens" in made.reuse.text
    assert all(cache.prefix is not None for cache in caches)


@pytest.mark.parametrize("family", FAMILIES)
def test_questions_answered_together_get_the_same_replies(family: str) -> None:
    expected = [by_transformers(family, context(), prompt) for prompt in PROMPTS]
    made = model(family, question_batch=2)
    cache = made.prefill(context())
    for _ in range(2):  # the proof comes first, alone; then in batches
        replies = [r for r in made.generate_all(cache, PROMPTS, DECODING) if isinstance(r, Reply)]
        assert [reply.text for reply in replies] == expected
    alone = family == "sliding_window"  # where padding would take up room in the window
    assert sum(reply.question_s or 0 for reply in replies[: 1 + (not alone)]) == pytest.approx(replies[0].first_token_s)


@pytest.mark.parametrize("own", [True, False])
def test_a_repetition_penalty(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checkpoint's own, or that of the command; of prompt and reply, as `generate` of transformers does it."""
    made = model("qwen2_5_vl", question_batch=2)
    plain = [by_transformers("qwen2_5_vl", context(), prompt) for prompt in PROMPTS]
    decoding = Decoding(max_new_tokens=6, repetition_penalty=None if own else 5.0)
    with monkeypatch.context() as patch:
        patch.setattr(made.network.generation_config, "repetition_penalty", 5.0)
        expected = [by_transformers("qwen2_5_vl", context(), prompt) for prompt in PROMPTS]
    assert expected != plain
    monkeypatch.setattr(made.network.generation_config, "repetition_penalty", 5.0 if own else 1.0)
    cache = made.prefill(context())
    for _ in range(2):
        replies = [r for r in made.generate_all(cache, PROMPTS, decoding) if isinstance(r, Reply)]
        assert [reply.text for reply in replies] == expected
    assert made.reuse is not None and made.reuse.right


def test_a_cache_that_cannot_be_cropped_is_copied() -> None:
    made = model("sliding_window")
    cache = made.prefill(context())
    assert cache.prefix is not None and not cache.prefix.cache.croppable
    plain = model("qwen2_vl").prefill(context())
    assert plain.prefix is not None and plain.prefix.cache.croppable


def test_a_long_video_whose_times_exceed_its_positions() -> None:
    """Qwen2.5-VL: a frame's time counts as its position, the text behind the video goes on from the frame's width."""
    made = model("qwen2_5_vl")
    cache = made.prefill(context(40))
    assert made.generate(cache, PROMPTS[0], DECODING).text == by_transformers("qwen2_5_vl", context(40), PROMPTS[0])
    assert made.reuse is not None and made.reuse.right


@pytest.mark.parametrize("family", M_ROPE)
def test_wrong_rope_deltas_are_caught(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PositionState, "restore", lambda self: None)
    made = model(family)
    reply = made.generate(made.prefill(context()), PROMPTS[0], DECODING)
    assert made.reuse is not None and not made.reuse.right
    assert "positions of the question" in reply.details["prefix_reuse"] and "prefix reuse is off" in reply.remarks[0]
    assert reply.text == by_transformers(family, context(), PROMPTS[0])
    later = made.prefill(context(6, 1))
    assert later.prefix is None  # nothing is prefilled that is not used
    assert made.generate(later, PROMPTS[1], DECODING).text == by_transformers(family, context(6, 1), PROMPTS[1])


def test_the_deltas_that_the_network_leaves_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "_deltas", lambda module, inputs: module.rope_deltas)
    made = model("qwen2_5_vl")
    made.generate(made.prefill(context(40)), PROMPTS[0], DECODING)
    assert made.reuse is not None and not made.reuse.right


def test_wrong_rope_deltas_are_caught_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rounding hides what a wrong position does to the logits."""
    made = HFVLM(checkpoint=str(checkpoint("qwen2_5_vl")), dtype="bfloat16", device="cpu").build()
    assert isinstance(made, adapter.HFVLMModel)
    cache = made.prefill(context())
    made.generate(cache, PROMPTS[0], DECODING)
    assert made.reuse is not None and made.reuse.right
    seconds = made.inputs(cache, cache.before)["second_per_grid_ts"]
    assert seconds.dtype == torch.float32  # positions follow from it
    monkeypatch.setattr(PositionState, "restore", lambda self: None)
    monkeypatch.setattr(adapter, "compare", lambda *passes: pytest.fail("the positions have to tell"))
    made.reuse = None
    made.generate(made.prefill(context()), PROMPTS[0], DECODING)
    assert made.reuse is not None and not made.reuse.right  # type: ignore[unreachable]


@pytest.mark.parametrize("family", FAMILIES)
def test_positions_are_seen(family: str) -> None:
    made = model(family)
    cache = made.prefill(context())
    ids = made.tail_of(cache, PROMPTS[0])
    assert ids is not None
    with reuse.text_positions(made.network) as seen:
        made.behind_prefix(cache, ids, DECODING)
    assert [len(step) for step in seen] == [len(ids)] + [1] * 5
    assert seen[1] == [seen[0][-1] + 1]


def test_keys_of_another_video_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model("llava_onevision")
    other = made.prefill(context(6, 5)).prefix
    cache = made.prefill(context())
    assert cache.prefix is not None and other is not None
    cache.prefix = adapter.Prefix(cache.prefix.cut, other.cache, other.positions)
    reply = made.generate(cache, PROMPTS[0], DECODING)
    assert made.reuse is not None and not made.reuse.right
    assert "logits differ" in reply.remarks[0]


def test_a_template_with_the_video_behind_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model("qwen2_5_vl")
    template = made.processor.chat_template.replace("{% for c in m.content %}", "{% for c in m.content | reverse %}")
    monkeypatch.setattr(made.processor, "chat_template", template)
    cache = made.prefill(context())
    reply = made.generate(cache, PROMPTS[0], DECODING)
    assert cache.prefix is None and "puts the video behind the question" in reply.details["prefix_reuse"]
    assert reply.text == by_transformers("qwen2_5_vl", context(), PROMPTS[0])


def test_tokens_across_the_cut_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model("smolvlm")
    encode = made.tail_of
    cache = made.prefill(context())
    monkeypatch.setattr(made, "tail_of", lambda *args: [*encode(*args)[:-1], 7])
    reply = made.generate(cache, PROMPTS[0], DECODING)
    assert "not those of the whole chat" in reply.details["prefix_reuse"]
    assert reply.text == by_transformers("smolvlm", context(), PROMPTS[0])


def test_reuse_can_be_left_out() -> None:
    made = model("internvl", reuse_prefix=False)
    cache = made.prefill(context())
    reply = made.generate(cache, PROMPTS[0], DECODING)
    assert cache.prefix is None and cache.cost.kv_bytes is None and reply.remarks == ()
    assert reply.text == by_transformers("internvl", context(), PROMPTS[0])


def test_system_text_and_answer_prefix() -> None:
    made = model("qwen2_5_vl")
    prompt = Prompt("What is it?", answer_prefix="Best option: (")
    reply = made.generate(made.prefill(context(system="You see.")), prompt, DECODING)
    assert reply.text == by_transformers("qwen2_5_vl", context(system="You see."), prompt)
    assert reply.prompt is not None and reply.prompt.endswith("assistant\nBest option: (")
    assert made.context_text(context(system="You see.")).startswith("<|im_start|>system\nYou see.<|im_end|>")


def test_sampled_replies_do_not_depend_on_the_order() -> None:
    made, drawn = model("qwen2_vl"), Decoding(max_new_tokens=6, temperature=1.5, top_p=0.9, seed=3)
    cache = made.prefill(context())
    forwards = [made.generate(cache, prompt, drawn).text for prompt in PROMPTS]
    backwards = [made.generate(cache, prompt, drawn).text for prompt in PROMPTS[::-1]]
    assert forwards == backwards[::-1]
    assert forwards != [made.generate(cache, prompt, DECODING).text for prompt in PROMPTS]


def logits(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows)


def test_logits_are_compared_up_to_the_first_token_that_differs() -> None:
    one = Generated((1, 2), logits([0.0, 8.0], [1.0, 4.0]))
    assert compare(one, one, torch.float32).right
    tie = Generated((0, 2), logits([8.0, 8.0], [9.0, -9.0]))
    near = Generated((1, 2), logits([8.0, 8.000001], [1.0, 4.0]))
    assert compare(near, tie, torch.float32).right  # the second step follows other tokens
    assert not compare(one, tie, torch.float32).right
    worse = Generated((1, 2), logits([0.0, 8.0], [1.0, 4.1]))
    assert not compare(worse, one, torch.float32).right and compare(worse, one, torch.bfloat16).right


def test_logits_that_are_not_finite() -> None:
    """float16 overflows in some models."""
    fine, none = Generated((1,), logits([0.0, 8.0])), Generated((1,), logits([float("nan")] * 2))
    for pair in ((fine, none), (none, fine), (none, none)):
        verdict = compare(*pair, torch.float16)
        assert not verdict.right and "not finite" in verdict.text
    masked = Generated((1,), logits([float("-inf"), 8.0]))
    assert compare(masked, masked, torch.float16).right
