"""The vision half: equality with transformers' SigLIP, the grid, the pool, batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import SiglipVisionConfig, SiglipVisionModel

from evalkit.models.videoxl2.geometry import GRID, VISUAL_TOKENS
from evalkit.models.videoxl2.vision import Tower, Vision, resize_grid

from .test_dts import fill

CONFIG = SiglipVisionConfig(
    hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4, image_size=30, patch_size=4
)


@pytest.fixture(scope="module")
def vision() -> Vision:
    module = Vision(CONFIG, width=48, batch=8).eval()
    fill(module)
    return module


def frames(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 30, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.inference_mode()
def test_the_tower_is_transformers_siglip_before_its_last_block(attention: str) -> None:
    torch.manual_seed(0)
    config = SiglipVisionConfig(**CONFIG.to_dict() | {"attn_implementation": attention})
    theirs = SiglipVisionModel(config).eval()
    fill(theirs, seed=1)
    ours = Tower(config).eval()
    weights = {key.removeprefix("vision_model."): value for key, value in theirs.state_dict().items()}
    unused = ("post_layernorm.", "head.", "encoder.layers.3.")
    ours.load_state_dict({key: value for key, value in weights.items() if not key.startswith(unused)})

    pixels = torch.randn(3, 3, 30, 30)
    hidden = theirs(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(ours(pixels), hidden[-2], rtol=1e-5, atol=1e-5)
    assert (ours(pixels) - hidden[-1]).abs().max() > 0.1


def test_the_released_tower_sees_27_x_27_patches() -> None:
    released = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=27,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
    )
    with torch.device("meta"):
        tower = Tower(released)
        out = tower.embeddings(torch.empty(2, 3, 384, 384))
    assert out.shape == (2, 729, 1152)
    assert len(tower.encoder.layers) == 26


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_grid_is_resized_in_float32(dtype: torch.dtype) -> None:
    features = torch.randn(2, 27 * 27, 5).to(dtype)
    maps = features.float().transpose(1, 2).reshape(2, 5, 27, 27)
    expected = F.interpolate(maps, size=(24, 24), mode="bilinear", align_corners=False, antialias=False)
    assert torch.equal(resize_grid(features), expected.to(dtype))


@torch.inference_mode()
def test_tokens_are_averaged_behind_the_projector(vision: Vision) -> None:
    maps = torch.randn(2, 64, GRID, GRID)
    projected = vision.project(maps)
    assert projected.shape == (2, GRID * GRID, 48)
    tokens = vision.pool(projected)
    assert tokens.shape == (2, VISUAL_TOKENS, 48)
    for token in range(VISUAL_TOKENS):
        row, column = 2 * (token // 12), 2 * (token % 12)
        corners = [GRID * (row + y) + column + x for y in (0, 1) for x in (0, 1)]
        torch.testing.assert_close(tokens[:, token], projected[:, corners].mean(1))
    pooled_first = vision.project(F.avg_pool2d(maps, 2))
    assert (pooled_first - tokens).abs().max() > 0.01


@settings(max_examples=10, deadline=None)
@given(count=st.integers(1, 21), piece=st.sampled_from([4, 8, 12]))
def test_a_video_may_come_in_pieces(vision: Vision, count: int, piece: int) -> None:
    whole = vision.encode(frames(count))
    assert whole.shape == (-(-count // 4), VISUAL_TOKENS, 48)
    pieces = torch.cat([vision.encode(frames(count)[at : at + piece]) for at in range(0, count, piece)])
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_close(vision: Vision, dtype: torch.dtype) -> None:
    half = Vision(CONFIG, width=48, batch=8).eval()
    half.load_state_dict(vision.state_dict())
    half.to(dtype)
    exact, rounded = vision.encode(frames(8)), half.encode(frames(8))
    assert rounded.dtype == dtype
    assert (rounded.float() - exact).norm() / exact.norm() < (0.05 if dtype == torch.bfloat16 else 0.01)


def test_no_more_than_a_batch_of_pixels_at_a_time(vision: Vision, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    tower = vision.tower.forward
    monkeypatch.setattr(vision.tower, "forward", lambda pixels: (seen.append(len(pixels)), tower(pixels))[1])
    vision.encode(frames(21))
    assert seen == [8, 8, 5]
