"""The decoder against transformers' Qwen2."""

from __future__ import annotations

import pytest
import torch
from transformers import Qwen2Config

from evalkit.errors import CheckpointError, ConfigError
from evalkit.models.shared.attention import Eager, MergedAttention, SdpaCpu, attend, kernel
from evalkit.models.shared.layout import Full, Layout
from evalkit.models.shared.qwen2 import Qwen2Decoder, Rope, rotate

from .twin import Sequence, allowed, answered, config, one_shot, pair, prefilled, worst

SIZES = [
    {},
    {"num_key_value_heads": 4},
    {"num_key_value_heads": 1, "num_attention_heads": 8},
    {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    {"num_hidden_layers": 1},
    {"rms_norm_eps": 1e-5},
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_logits_at_every_position(sizes: dict) -> None:
    ours, theirs = pair(**sizes)
    sequence = Sequence.random(Layout(1), 60, 32)
    expected = one_shot(theirs, sequence.embeds, torch.ones(61, 61).tril().bool()).logits[0]
    store = prefilled(ours, sequence, Full())
    assert worst(answered(ours, store, sequence.question), expected[1:]) < 1e-5


@pytest.mark.parametrize("context", [1, 17, 58])
def test_a_context_and_a_question_are_one_sequence(context: int) -> None:
    ours, theirs = pair()
    sequence = Sequence.random(Layout(context), 60 - context, 32)
    expected = one_shot(theirs, sequence.embeds, allowed(sequence.layout, Full(), 60 - context)).logits[0, context:]
    assert worst(answered(ours, prefilled(ours, sequence, Full()), sequence.question), expected) < 1e-5


def test_parameters_have_the_names_of_transformers() -> None:
    ours, theirs = pair()
    assert set(ours.state_dict()) == {name.removeprefix("model.") for name in theirs.state_dict()}


def test_can_be_built_without_memory_and_filled_later() -> None:
    ours, _ = pair()
    with torch.device("meta"):
        empty = Qwen2Decoder(config())
    empty.load_state_dict(ours.state_dict(), assign=True)
    sequence = Sequence.random(Layout(5), 7, 32)
    expected = answered(ours, prefilled(ours, sequence, Full()), sequence.question)
    assert torch.equal(answered(empty.eval(), prefilled(empty, sequence, Full()), sequence.question), expected)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.2), (torch.float16, 0.03)])
def test_half_precision_is_close(dtype: torch.dtype, bound: float) -> None:
    ours, _ = pair()
    sequence = Sequence.random(Layout(4, 0, [3, 3, 4], [9, 9, 9]), 12, 32)
    exact = answered(ours, prefilled(ours, sequence, Full()), sequence.question)
    half, _ = pair()
    half = half.to(dtype)
    sequence.embeds = sequence.embeds.to(dtype)
    logits = answered(half, prefilled(half, sequence, Full()), sequence.question)
    assert logits.dtype == torch.float32
    assert 0 < worst(logits, exact) / float(exact.std()) < bound


def test_angles_are_float32_whatever_the_model_is() -> None:
    cos, _ = Rope(64, 1e6).at(torch.tensor([0, 77_777]))
    assert cos.dtype == torch.float32
    exact = torch.cos(77_777 / torch.tensor(1e6, dtype=torch.float64) ** (torch.arange(0, 64, 2).double() / 64))
    assert worst(cos[1].double(), exact) < 0.01  # the angle itself is rounded; bfloat16 would be off by 2


def test_rotation_depends_on_distance_alone() -> None:
    rope = Rope(8, 1e4)
    q, k = torch.randn(2, 1, 8), torch.randn(2, 1, 8)

    def score(at: int, before: int) -> torch.Tensor:
        return (rotate(q, rope.at(torch.tensor([at]))) * rotate(k, rope.at(torch.tensor([before])))).sum(-1)

    assert torch.allclose(score(9, 4), score(105, 100), atol=1e-5)
    assert not torch.allclose(score(9, 4), score(9, 5), atol=1e-2)


def test_scaled_rotary_positions_are_refused() -> None:
    rope = {"rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 32768}
    with pytest.raises(CheckpointError, match="yarn"):
        Qwen2Decoder(Qwen2Config(rope_parameters=rope))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_fused_attention_is_plain_attention(heads: int, kv_heads: int, causal: bool) -> None:
    q, k, v = torch.randn(heads, 33, 8), torch.randn(kv_heads, 33, 8), torch.randn(kv_heads, 33, 8)
    for got, expected in zip(SdpaCpu()(q, k, v, causal), Eager()(q, k, v, causal), strict=True):
        assert worst(got, expected) < 1e-5


@pytest.mark.parametrize("attention", [SdpaCpu(), Eager()], ids=str)
def test_parts_of_a_history_merge_exactly(attention: SdpaCpu | Eager) -> None:
    q, k, v = torch.randn(4, 10, 8), torch.randn(2, 50, 8), torch.randn(2, 50, 8)
    whole = MergedAttention(*Eager()(q, k, v, causal=True))
    parts = [(k[:, a:b], v[:, a:b]) for a, b in ((0, 1), (1, 1), (1, 30), (30, 40))]
    for history in (parts, iter(parts)):
        merged = attend(attention, q, history, (k[:, 40:], v[:, 40:]))
        assert worst(merged.out, whole.out) < 1e-5 and worst(merged.lse, whole.lse) < 1e-5


class EagerAtEnd(Eager):
    """Stands for kernels that take history and own rows in one call."""

    aligns_at_end = True


def test_one_call_or_parts() -> None:
    q, k, v = torch.randn(4, 10, 8), torch.randn(2, 50, 8), torch.randn(2, 50, 8)
    parts, own = [(k[:, :40], v[:, :40])], (k[:, 40:], v[:, 40:])
    assert worst(attend(EagerAtEnd(), q, parts, own).out, attend(Eager(), q, parts, own).out) < 1e-5
    assert (
        worst(attend(EagerAtEnd(), q, [], (k[:, :10], v[:, :10])).out, Eager()(q, k[:, :10], v[:, :10], True)[0]) == 0
    )


@pytest.mark.parametrize(
    ("name", "device", "dtype", "words"),
    [
        ("spda", "cpu", torch.float32, 'Did you mean "sdpa"'),
        ("flex", "cpu", torch.float32, "CUDA"),
        ("flash_attention_2", "cpu", torch.float16, "CUDA"),
        ("flash_attention_2", "cuda", torch.float32, "float16 or bfloat16"),
        ("flash_attention_2", "cuda", torch.float16, "flash-attn"),
    ],
)
def test_attention_that_cannot_work_says_what_to_do(name: str, device: str, dtype: torch.dtype, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        kernel(name, torch.device(device), dtype)
