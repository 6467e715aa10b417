"""The temporal module against golden results."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch

from evalkit.models.videoxl2.dts import DTS, group_frames

from .cases import Case, assert_close, find_cases, find_variants

PREFIX = "model.sae."


@cache
def module(case: Case) -> DTS:
    weights = {key.removeprefix(PREFIX): value for key, value in case.weights().items() if key.startswith(PREFIX)}
    dts = DTS(case.meta["dims"]["channels"])
    dts.load_state_dict(weights)
    return dts.eval()


def features_of(case: Case, variant: dict[str, Any]) -> torch.Tensor:
    """`name` or `name[:n]` of the inputs."""
    match = re.fullmatch(r"([\w.]+)(?:\[:(\d+)\])?", variant["features"])
    assert match, variant["features"]
    name, count = match.groups()
    features = case.inputs()[name]
    return features if count is None else features[: int(count)]


@pytest.mark.parametrize(("case", "name"), find_variants("dts"))
@torch.inference_mode()
def test_groups_of_four_frames_become_one_map(case: Case, name: str) -> None:
    variant = case.meta["variants"][name]
    features = features_of(case, variant)
    out = module(case)(features)
    assert_close(out.unsqueeze(2), case.expected()[f"{name}.out"], case.meta["tolerance"]["abs"], name)
    if "frame_order" in variant:  # how the last frame fills the group, spelt out
        assert torch.equal(module(case)(features[variant["frame_order"]]), out)


@pytest.mark.parametrize("case", find_cases("dts"))
@torch.inference_mode()
def test_every_stage(case: Case) -> None:
    expected = case.expected()
    dts = module(case)
    x = dts.encode_slots(group_frames(case.inputs()["stages.features"]))
    assert_close(x, expected["stages.after_encoding"], case.meta["tolerance"]["abs"], "encoding")
    for index, stage in enumerate(dts.encoder):
        x = stage(x)
        assert_close(x, expected[f"stages.after_encoder_{index}"], case.meta["tolerance"]["abs"], f"stage {index}")
