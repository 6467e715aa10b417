"""Sizes of frames: against Qwen2-VL's own rounding, within their budgets, and through the decoding process."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from evalkit.errors import ConfigError
from evalkit.types import Composite, FrameRequest, Video
from evalkit.video.messages import request_from_json, request_to_json
from evalkit.video.reader import FrameReader
from evalkit.video.resize import FixedSize, LongestSide, PixelBudget, Resize
from evalkit.video.settings import VideoSettings

from .corpus import SIZE, Corpus

SIDES = st.integers(28, 5000)


@settings(max_examples=300, deadline=None)
@given(SIDES, SIDES, st.integers(4, 2000), st.integers(4, 400), st.sampled_from([14, 28, 32]))
def test_a_pixel_budget_rounds_as_qwen2_vl(height: int, width: int, most: int, least: int, unit: int) -> None:
    if max(height, width) / min(height, width) > 200:  # refused there
        return
    limits = (min(least, most) * unit**2, most * unit**2)
    expected = smart_resize(height, width, unit, *limits)
    if min(expected) == 0:  # a side rounded to nothing, where there is no minimum
        return
    assert PixelBudget(limits[1], limits[0], multiple_of=unit).size_for(height, width, 8) == expected


@settings(max_examples=200, deadline=None)
@given(SIDES, SIDES, st.integers(1, 2000), st.integers(10, 10**6))
def test_the_total_budget_is_shared_by_the_frames(height: int, width: int, frames: int, share: int) -> None:
    total = share * frames
    size = PixelBudget(10**6, total_max=total).size_for(height, width, frames)
    assert size == PixelBudget(share).size_for(height, width, 1)
    if total >= frames * 28 * 28 * max(height, width) / min(height, width):  # each side fits its smallest multiple
        assert frames * size[0] * size[1] <= total
    assert size[0] % 28 == size[1] % 28 == 0 < min(size)


def test_a_frame_never_gets_less_than_its_minimum_of_a_total_budget() -> None:
    budget = PixelBudget(per_frame_max=768 * 28 * 28, per_frame_min=128 * 28 * 28, total_max=1000 * 28 * 28)
    sizes = {frames: budget.size_for(1080, 1920, frames) for frames in (1, 4, 100)}
    assert [h * w / 28 / 28 for h, w in sizes.values()] == [20 * 36, 11 * 21, 8 * 15]


@pytest.mark.parametrize(
    ("shown", "pixels", "expected"),
    [((1080, 1920), 448, (252, 448)), ((1920, 1080), 448, (448, 252)), ((10, 4000), 100, (1, 100))],
)
def test_the_longest_side(shown: tuple[int, int], pixels: int, expected: tuple[int, int]) -> None:
    assert LongestSide(pixels).size_for(*shown, 1) == expected
    assert LongestSide(pixels, enlarge=False).size_for(*shown, 1) == expected


def test_the_longest_side_of_a_small_video() -> None:
    assert LongestSide(100).size_for(20, 50, 1) == (40, 100)
    assert LongestSide(100, enlarge=False).size_for(20, 50, 1) == (20, 50)


REQUESTS = [
    FrameRequest("uniform", 4),
    FrameRequest("uniform", 4, resize=FixedSize(30, 50)),
    FrameRequest("uniform", 4, resize=PixelBudget(20 * 14 * 14, multiple_of=14)),
    FrameRequest("uniform", 4, resize=LongestSide(64), resample="bilinear"),
    FrameRequest("uniform", 4, resize=LongestSide(64, enlarge=False)),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_a_request_survives_json(request_: FrameRequest) -> None:
    assert request_from_json(json.loads(json.dumps(request_to_json(request_)))) == request_


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FixedSize(0, 4), "FixedSize.height is 0"),
        (lambda: PixelBudget(100, 200), "more than per_frame_max"),
        (lambda: PixelBudget(100, multiple_of=0), "multiple_of is 0"),
        (lambda: PixelBudget(100, total_max=0), "total_max is 0"),
        (lambda: LongestSide(1.5), "LongestSide.pixels is 1.5"),  # type: ignore[arg-type]
    ],
)
def test_sizes_that_cannot_work_say_why(make, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        make()
    assert words in str(error.value)


def test_the_displayed_size_counts(corpus: Corpus, tmp_path: Path) -> None:
    """A video that is stored wide and shown upright, a composite, and a folder of pictures."""
    image = tmp_path / "pictures" / "1.png"
    image.parent.mkdir()
    Image.fromarray(np.zeros((60, 20, 3), np.uint8)).save(image)
    wide, upright = Video("w", corpus["closed_gop.mp4"]), Video("u", corpus["rotated.mp4"])
    composite = replace(wide, composite=Composite("uniform", 3, image, 0.5))
    expected = [
        (wide, (48, 64)),
        (upright, (64, 48)),
        (composite, (48, 64)),
        (Video("p", image.parent, fps=1.0), (64, 21)),
    ]
    assert SIZE == (96, 128)
    request = FrameRequest("uniform", 4, resize=LongestSide(64))
    with FrameReader(VideoSettings(workers=1)) as reader:
        for video, (height, width) in expected:
            (frames,) = reader.open(video, request).batches(9)
            assert frames.shape[1:] == (height, width, 3), video.id


def test_the_frames_are_resized_to_it(corpus: Corpus) -> None:
    resizes: list[Resize | None] = [PixelBudget(20 * 14 * 14, multiple_of=14), None]
    with FrameReader(VideoSettings(workers=1)) as reader:
        for resize, size in zip(resizes, [(42, 70), SIZE], strict=True):
            stream = reader.open(Video("v", corpus["vfr.mp4"]), FrameRequest("uniform", 5, resize=resize))
            (frames,) = stream.batches(5)
            for frame, i in zip(frames, stream.plan.indices, strict=True):
                full = Image.fromarray(corpus.frames("vfr.mp4")[i])
                assert np.array_equal(frame, np.asarray(full.resize(size[::-1], Image.Resampling.BICUBIC)))
