"""DTS, the dynamic token synthesis module of Video-XL-2: four frames of a feature map become one.

    [4G, C, h, w] -> group -> [G, C, 4, h, w]
      + temporal encoding
      spatial attention, temporal attention, causal 3x3x3 convolution   4 slots -> 2
      spatial attention, temporal attention, causal 3x3x3 convolution   2 slots -> 1
    -> [G, C, h, w]

Source: `SiglipAE` in github.com/VectorSpaceLab/Video-XL (Video-XL-2). Two details look like mistakes and are kept,
because the weights were trained with them: the grouping reinterprets memory instead of transposing, and the
relative-position bias of the temporal attention is transposed. Parameter names and shapes are the checkpoint's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .geometry import GROUP_FRAMES

NORM_GROUPS = 32
MAX_DISTANCE = 64
"""Relative positions -64..64 have a row in the tables, though a group of four slots only ever reads -3..3."""


def group_frames(features: Tensor) -> Tensor:
    """`[4G, C, h, w]` -> `[G, C, 4, h, w]`, a reinterpretation of the memory: slot (c, t) of a group is channel
    (4c + t) mod C of frame (4c + t) div C."""
    frames, channels, height, width = features.shape
    assert frames % GROUP_FRAMES == 0, frames
    return features.contiguous().view(frames // GROUP_FRAMES, channels, GROUP_FRAMES, height, width)


def pad_frames(features: Tensor) -> Tensor:
    """Repeat the last frame until the number of frames is a multiple of four: `[n, ...]` -> `[4 ceil(n/4), ...]`."""
    missing = -len(features) % GROUP_FRAMES
    return torch.cat([features, features[-1:].expand(missing, *features.shape[1:])]) if missing else features


class Pointwise(nn.Module):
    """A 1x1 convolution applied to the last axis, as the linear map it is. `dims` ones trail the weight's shape in the
    checkpoint."""

    def __init__(self, channels_in: int, channels_out: int, dims: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels_out, channels_in, *[1] * dims))
        self.bias = nn.Parameter(torch.empty(channels_out))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.flatten(1), self.bias)


class SpatialAttention(nn.Module):
    """Each slot attends over its own h x w positions, with one head as wide as the channels. The normalisation's
    statistics run over channels in a norm group, slots and positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, channels, eps=1e-6)
        self.q = Pointwise(channels, channels, dims=3)
        self.k = Pointwise(channels, channels, dims=3)
        self.v = Pointwise(channels, channels, dims=3)
        self.proj_out = Pointwise(channels, channels, dims=3)

    def forward(self, x: Tensor) -> Tensor:
        """`[G, C, T, h, w]` -> the same shape."""
        slots = self.norm(x).permute(0, 2, 3, 4, 1).flatten(2, 3)  # [G, T, h*w, C]
        mixed = F.scaled_dot_product_attention(self.q(slots), self.k(slots), self.v(slots))
        return x + self.proj_out(mixed).unflatten(2, x.shape[3:]).permute(0, 4, 1, 2, 3)


class RelativePosition(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.embeddings_table = nn.Parameter(torch.empty(2 * MAX_DISTANCE + 1, channels))

    def forward(self, slots: int) -> Tensor:
        """`[T, T, C]`; entry (i, j) belongs to the distance j - i."""
        at = torch.arange(slots, device=self.embeddings_table.device)
        return self.embeddings_table[(at[None, :] - at[:, None]).clamp(-MAX_DISTANCE, MAX_DISTANCE) + MAX_DISTANCE]


class TemporalAttention(nn.Module):
    """Each position attends over the slots, with learned relative positions. The normalisation's statistics run over
    channels in a norm group and slots, at each position by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, channels, eps=1e-6)
        self.qkv = Pointwise(channels, 3 * channels, dims=1)
        self.relative_position_k = RelativePosition(channels)
        self.relative_position_v = RelativePosition(channels)
        self.proj_out = Pointwise(channels, channels, dims=1)

    def forward(self, x: Tensor) -> Tensor:
        """`[G, C, T, h, w]` -> the same shape."""
        groups, channels, slots, height, width = x.shape
        positions = x.permute(0, 3, 4, 1, 2).reshape(-1, channels, slots)  # [G*h*w, C, T]
        q, k, v = self.qkv(self.norm(positions).transpose(1, 2)).chunk(3, dim=-1)  # [G*h*w, T, C] each
        scale = channels**-0.25
        q, k = q * scale, k * scale
        # The bias of row i and column j is q_j . E[i - j]: transposed, compared with the usual q_i . E[j - i].
        bias = torch.einsum("pjc,jic->pij", q, self.relative_position_k(slots))
        attention = (q @ k.transpose(1, 2) + bias).float().softmax(dim=-1).to(v.dtype)
        mixed = attention @ v + torch.einsum("pij,ijc->pic", attention, self.relative_position_v(slots))
        return x + self.proj_out(mixed).view(groups, height, width, slots, channels).permute(0, 4, 3, 1, 2)


class CausalConv(nn.Module):
    """3x3x3 convolution that halves the slots. Padding repeats the border: on both sides in space, in front in time."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, kernel_size=3, stride=(2, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """`[G, C, T, h, w]` -> `[G, C, T/2, h, w]`."""
        padded = F.pad(x.float(), (1, 1, 1, 1, 1, 0), mode="replicate").to(x.dtype)
        return self.conv(padded)


class DTS(nn.Module):
    """Groups do not influence each other, so that any batching over them gives the same result."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        assert channels % NORM_GROUPS == 0, channels
        self.temporal_encoding = nn.Parameter(torch.empty(GROUP_FRAMES, channels))
        stages = [
            stage
            for _ in range(2)
            for stage in (SpatialAttention(channels), TemporalAttention(channels), CausalConv(channels))
        ]
        self.encoder = nn.Sequential(*stages)

    def encode_slots(self, groups: Tensor) -> Tensor:
        """Tell the slots apart: `[G, C, 4, h, w]` -> the same shape."""
        return groups + self.temporal_encoding.T[:, :, None, None]

    def forward(self, features: Tensor) -> Tensor:
        """`[n, C, h, w]` of n frames -> `[ceil(n/4), C, h, w]`. The last frame fills up the last group."""
        return self.encoder(self.encode_slots(group_frames(pad_frames(features)))).squeeze(2)
