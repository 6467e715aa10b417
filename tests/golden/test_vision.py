"""Frames to visual tokens against golden results, stage by stage."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from transformers import SiglipVisionConfig

from evalkit.models.videoxl2.geometry import GRID, VISUAL_TOKENS
from evalkit.models.videoxl2.pixels import pixel_values
from evalkit.models.videoxl2.vision import Vision

from .cases import Case, assert_close, find_variants

PARTS = {
    "model.vision_tower.vision_tower.vision_model.": "tower.",
    "model.sae.": "dts.",
    "model.mm_projector.": "projector.",
}


def subset(case: Case, stage: str) -> tuple[slice, ...]:
    """Which part of a tensor is stored: `[::4, ::5] of [frames, patches, channels]`, or `complete [...]`."""
    text = case.meta["expected_subsets"][stage]
    if text.startswith("complete"):
        return (slice(None),)
    axes = text[1 : text.index("]")].split(",")
    return tuple(slice(*(int(number) if number.strip() else None for number in axis.split(":"))) for axis in axes)


def vision_config(dims: dict[str, Any]) -> SiglipVisionConfig:
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size")
    return SiglipVisionConfig(**{name: dims[name] for name in names})


@cache
def model(case: Case) -> Vision:
    dims = case.meta["dims"]
    weights = {
        mine + key.removeprefix(theirs): value
        for key, value in case.weights().items()
        for theirs, mine in PARTS.items()
        if key.startswith(theirs) and "post_layernorm" not in key
    }
    vision = Vision(vision_config(dims["vision"]), width=dims["out"], batch=4)
    vision.load_state_dict(weights)
    assert len(vision.tower.encoder.layers) == dims["vision"]["num_hidden_layers_in_the_weights"]
    return vision.eval()


@pytest.mark.parametrize(("case", "name"), find_variants("vision"))
@torch.inference_mode()
def test_every_stage(case: Case, name: str) -> None:
    variant, expected, tolerance = case.meta["variants"][name], case.expected(), case.meta["tolerance"]["abs"]
    vision = model(case)
    frames = case.inputs()["pixels_u8"][: variant["frames"]].permute(0, 2, 3, 1)
    stages = {"tower": vision.tower(pixel_values(frames))}
    stages["grid"] = vision.grid(stages["tower"])
    stages["dts"] = vision.dts(stages["grid"])
    stages["projector"] = vision.project(stages["dts"])
    stages["tokens"] = stages["tokens_every_third"] = vision.pool(stages["projector"])
    stored = [key.removeprefix(f"{name}.") for key in expected if key.startswith(f"{name}.")]
    assert stored, f"no expected tensor of {name}"
    for stage in stored:
        bound = tolerance[stage.removesuffix("_every_third")]
        assert_close(stages[stage][subset(case, stage)], expected[f"{name}.{stage}"], bound, stage)


@pytest.mark.parametrize(("case", "name"), find_variants("vision"))
def test_encode_in_batches_gives_the_same_tokens(case: Case, name: str) -> None:
    variant, expected, tolerance = case.meta["variants"][name], case.expected(), case.meta["tolerance"]["abs"]
    frames = case.inputs()["pixels_u8"][: variant["frames"]].permute(0, 2, 3, 1)
    tokens = model(case).encode(frames.numpy())
    assert tuple(tokens.shape) == tuple(variant["tokens_shape"])
    assert case.meta["dims"]["grid_after_resize"] == GRID and case.meta["dims"]["tokens_per_group"] == VISUAL_TOKENS
    for stage in ("tokens", "tokens_every_third"):
        if f"{name}.{stage}" in expected:
            assert_close(tokens[subset(case, stage)], expected[f"{name}.{stage}"], tolerance["tokens"], stage)
