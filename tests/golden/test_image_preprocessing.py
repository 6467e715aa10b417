"""Frame to pixel values, against golden results."""

from __future__ import annotations

import re
from hashlib import sha256

import numpy as np
import pytest
import torch
from PIL import Image

from evalkit.models.videoxl2.geometry import IMAGE_SIZE
from evalkit.models.videoxl2.pixels import RESAMPLE, pixel_values
from evalkit.models.videoxl2.settings import VideoXL2
from evalkit.video.resize import FixedSize

from .cases import Case, find_cases, find_variants


def frame(case: Case, name: str) -> np.ndarray:
    """uint8 `[height, width, 3]`, stored or computed from the formula that the case gives."""
    variant = case.meta["variants"][name]
    if variant["source"] == "inputs":
        return case.inputs()[f"{name}.frame_u8"].numpy()
    a, b, c, d = (case.meta["formula_coefficients"][letter] for letter in "abcd")
    y, x, k = np.mgrid[: variant["height"], : variant["width"], :3]
    checks = 90 * ((y // 16 + x // 16) % 2)
    return ((a * y + b * x + c * (y * x // 64) + d * k * (y - x) + checks) % 256).astype(np.uint8)


def resized(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """As the frame reader resizes while decoding."""
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling[RESAMPLE.upper()]))


def digest(array: np.ndarray) -> str:
    return sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.mark.parametrize("case", find_cases("image_preprocessing"))
def test_every_byte_has_its_value(case: Case) -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16, 1).expand(-1, -1, -1, 3)
    values = pixel_values(bytes_)[0]
    assert all(torch.equal(channel.flatten(), case.expected()["value_table"]) for channel in values)


@pytest.mark.parametrize("case", find_cases("image_preprocessing"))
def test_the_model_asks_for_frames_of_this_size(case: Case) -> None:
    request = VideoXL2().frames_wanted()
    assert request.resize == FixedSize(*case.meta["target"]) == FixedSize(IMAGE_SIZE, IMAGE_SIZE)
    assert request.resample == RESAMPLE


@pytest.mark.parametrize(("case", "name"), find_variants("image_preprocessing"))
def test_resized_and_normalised(case: Case, name: str) -> None:
    variant, expected = case.meta["variants"][name], case.expected()
    picture = frame(case, name)
    assert digest(picture) == variant["frame_sha256"]

    small = resized(picture, *case.meta["target"])
    chw = small.transpose(2, 0, 1)
    stored = next(key for key in expected if key.startswith(f"{name}.resized_u8_every_"))
    step = int(re.findall(r"every_(\d+)th", stored)[0])
    assert np.array_equal(chw[:, ::step, ::step], expected[stored].numpy())
    assert digest(chw) == variant["resized_u8_chw_sha256"]
    assert digest(pixel_values(small[None])[0].numpy()) == variant["pixel_values_float32_chw_sha256"]

    if f"{name}.small_target_pixel_values" in expected:
        tiny = resized(picture, *case.meta["small_target"])
        assert torch.equal(pixel_values(tiny[None])[0], expected[f"{name}.small_target_pixel_values"])
