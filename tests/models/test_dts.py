"""The temporal module: its grouping, its shapes, and its two peculiarities, against versions written out in loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.models.videoxl2.dts import DTS, CausalConv, TemporalAttention, group_frames, pad_frames

CHANNELS = 64


def fill(module: torch.nn.Module, seed: int = 0) -> None:
    """Random weights unlike initial ones: norms not 1, biases not 0, attention logits of some size."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if parameter.ndim == 1:
                parameter.copy_(noise * 0.3 + (name.endswith("norm.weight")))
            elif "table" in name or "encoding" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise * 1.5 / parameter[0].numel() ** 0.5)


@pytest.fixture(scope="module")
def dts() -> DTS:
    module = DTS(CHANNELS).eval()
    fill(module)
    return module


def features(frames: int, height: int = 4, width: int = 5, seed: int = 1) -> Tensor:
    return torch.randn(frames, CHANNELS, height, width, generator=torch.Generator().manual_seed(seed))


@given(
    groups=st.integers(1, 3), channels=st.sampled_from([2, 5, 32]), height=st.integers(1, 3), width=st.integers(1, 3)
)
def test_a_slot_holds_the_channel_that_lies_there_in_memory(
    groups: int, channels: int, height: int, width: int
) -> None:
    frames = torch.randn(4 * groups, channels, height, width)
    grouped = group_frames(frames)
    for group in range(groups):
        for channel in range(channels):
            for slot in range(4):
                flat = 4 * channel + slot
                frame = frames[4 * group + flat // channels, flat % channels]
                assert torch.equal(grouped[group, channel, slot], frame)


def test_grouping_does_not_depend_on_strides() -> None:
    frames = features(8)
    assert torch.equal(group_frames(frames.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)), group_frames(frames))


@given(frames=st.integers(1, 9))
def test_the_last_frame_fills_the_last_group(frames: int) -> None:
    given_ = torch.arange(frames).float()
    padded = pad_frames(given_)
    assert len(padded) % 4 == 0 and 0 <= len(padded) - frames < 4
    assert padded.tolist() == given_.tolist() + [frames - 1.0] * (len(padded) - frames)


@torch.inference_mode()
def test_two_stages_halve_the_slots_and_keep_the_map(dts: DTS) -> None:
    x = dts.encode_slots(group_frames(features(12, 6, 7)))
    slots = []
    for stage in dts.encoder:
        x = stage(x)
        slots.append(x.shape[2])
        assert x.shape[:2] == (3, CHANNELS) and x.shape[3:] == (6, 7)
    assert slots == [4, 4, 2, 2, 2, 1]


@settings(max_examples=15, deadline=None)
@given(frames=st.integers(1, 21), cut=st.integers(1, 5))
@torch.inference_mode()
def test_groups_do_not_influence_each_other(dts: DTS, frames: int, cut: int) -> None:
    whole = dts(features(frames))
    parts = torch.cat([dts(features(frames)[at : at + 4 * cut]) for at in range(0, frames, 4 * cut)])
    assert whole.shape == (-(-frames // 4), CHANNELS, 4, 5)
    torch.testing.assert_close(parts, whole, rtol=1e-6, atol=1e-6 * whole.abs().max().item())


@torch.inference_mode()
def test_frames_of_a_group_are_not_interchangeable(dts: DTS) -> None:
    frames = features(4)
    assert (dts(frames) - dts(frames.flip(0))).abs().max() > 0.1


@torch.inference_mode()
def test_a_transposed_grouping_would_give_something_else(dts: DTS) -> None:
    frames = features(4)
    transposed = frames.unflatten(0, (1, 4)).transpose(1, 2)
    apart = dts.encoder(dts.encode_slots(transposed)).squeeze(2)
    assert (apart - dts(frames)).abs().max() > 0.1


def temporal_attention_in_loops(module: TemporalAttention, x: Tensor, transposed_bias: bool) -> Tensor:
    """One position after the other, one pair of slots after the other."""
    groups, channels, slots, height, width = x.shape
    key_table = module.relative_position_k.embeddings_table
    value_table = module.relative_position_v.embeddings_table
    scale = channels**-0.25
    out = x.clone()
    for group in range(groups):
        for row in range(height):
            for column in range(width):
                here = x[group, :, :, row, column]  # [C, T]
                qkv = module.qkv.weight.flatten(1) @ module.norm(here[None])[0] + module.qkv.bias[:, None]
                q, k, v = qkv.T.split(channels, dim=1)
                logits = torch.empty(slots, slots)
                for i in range(slots):
                    for j in range(slots):
                        bias = q[j] @ key_table[i - j + 64] if transposed_bias else q[i] @ key_table[j - i + 64]
                        logits[i, j] = scale * scale * (q[i] @ k[j]) + scale * bias
                weights = logits.softmax(1)
                for i in range(slots):
                    mixed = sum(weights[i, j] * (v[j] + value_table[j - i + 64]) for j in range(slots))
                    out[group, :, i, row, column] += module.proj_out.weight.flatten(1) @ mixed + module.proj_out.bias
    return out


@torch.inference_mode()
def test_temporal_attention_has_the_transposed_bias() -> None:
    module = TemporalAttention(CHANNELS)
    fill(module, seed=3)
    x = torch.randn(2, CHANNELS, 4, 2, 3, generator=torch.Generator().manual_seed(4))
    as_trained = temporal_attention_in_loops(module, x, transposed_bias=True)
    torch.testing.assert_close(module(x), as_trained, rtol=1e-4, atol=1e-4)
    assert (temporal_attention_in_loops(module, x, transposed_bias=False) - as_trained).abs().max() > 0.1


@torch.inference_mode()
def test_convolution_is_padded_in_front_in_time() -> None:
    module = CausalConv(CHANNELS)
    fill(module, seed=5)
    x = torch.randn(1, CHANNELS, 4, 3, 3, generator=torch.Generator().manual_seed(6))
    changed = x.clone()
    changed[:, :, 2:] += 1  # slots 2 and 3 reach the second output slot alone
    before, after = module(x), module(changed)
    assert torch.equal(before[:, :, 0], after[:, :, 0])
    assert not torch.equal(before[:, :, 1], after[:, :, 1])
    constant = torch.ones_like(x)
    filled = module.conv.weight.sum(dim=(1, 2, 3, 4)) + module.conv.bias  # borders are repeated, not zero
    torch.testing.assert_close(module(constant), filled[None, :, None, None, None].expand(1, -1, 2, 3, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.inference_mode()
def test_half_precision_stays_close(dts: DTS, dtype: torch.dtype) -> None:
    half = DTS(CHANNELS).eval()
    half.load_state_dict(dts.state_dict())
    half.to(dtype)
    exact, rounded = dts(features(8)), half(features(8).to(dtype))
    assert rounded.dtype == dtype
    error = (rounded.float() - exact).norm() / exact.norm()
    assert error < (0.05 if dtype == torch.bfloat16 else 0.01)


def test_the_released_size() -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in DTS(1152).parameters()) == 93_526_272
