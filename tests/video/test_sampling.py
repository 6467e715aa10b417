"""Sampling rules against the golden rows of Video-XL-2, against slow literal versions, and at their edges."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalkit.errors import ConfigError, VideoError
from evalkit.types import FrameRequest
from evalkit.video.sampling import RULES, sample

GOLDEN = Path(os.environ.get("EVALKIT_GOLDEN", Path(__file__).parents[1] / "golden" / "cases"))
CASE = GOLDEN / "frame_sampling" / "case.json"
NTSC_FILM, NTSC = 24000 / 1001, 30000 / 1001


def test_video_xl_2_equals_the_reference_rows() -> None:
    if not CASE.is_file():
        pytest.skip(f"no golden case at {CASE}")
    rows = json.loads(CASE.read_text())["rows"]
    assert len(rows) > 30
    for row in rows:
        max_fps = 0.0 if row["max_fps"] is None else float(row["max_fps"])
        request = FrameRequest("video_xl_2", row["max_frames"], float(row["fps"]), max_fps)
        expected = row["chunked"]
        if "indices" not in expected:  # the reference raises or returns nothing: here it costs the video, with a cause
            with pytest.raises(VideoError) as error:
                sample(request, row["total_frames"], row["native_fps"])
            assert error.value.kind in ("too_short", "damaged")
            continue
        plan = sample(request, row["total_frames"], row["native_fps"])
        assert list(plan.indices) == expected["indices"]
        assert list(plan.times_s) == expected["timestamps"]

        groups = FrameRequest("video_xl_2", row["max_frames"], float(row["fps"]), max_fps, multiple_of=4)
        if row["pure_keeps_the_first"] == 0:
            with pytest.raises(VideoError) as error:
                sample(groups, row["total_frames"], row["native_fps"])
            assert error.value.kind == "too_short"
        else:
            assert (
                list(sample(groups, row["total_frames"], row["native_fps"]).indices)
                == (expected["indices"][: row["pure_keeps_the_first"]])
            )


@pytest.mark.parametrize(
    ("rule", "count", "fps", "n", "expected"),
    [
        ("uniform", 10, 25.0, 4, [0, 3, 6, 9]),
        ("uniform", 1, 25.0, 8, [0]),
        ("uniform", 3, 25.0, 8, [0, 1, 2]),
        ("uniform_inside", 10, 25.0, 4, [2, 4, 6, 8]),
        ("uniform_inside", 1, 25.0, 4, [0]),
        ("fps", 100, 25.0, 0, [0, 25, 50, 75]),
        ("fps", 240, NTSC_FILM, 0, [0, 23, 47, 71, 95, 119, 143, 167, 191, 215]),
        ("fps", 240, NTSC_FILM, 3, [0, 119, 239]),
        ("longvideobench", 299, NTSC, 256, [0, 33, 66, 99, 132, 165, 198, 231, 264]),
        ("longvideobench", 3000, 25.0, 4, [0, 750, 1500, 2250]),
        ("whole_seconds", 240, NTSC_FILM, 0, [0, 23, 47, 71, 95, 119, 143, 167, 191, 215]),
        ("whole_seconds", 90, NTSC, 0, [0, 29, 59]),
        ("midpoints", 101, 25.0, 4, [12, 37, 62, 87]),
        ("midpoints", 1, 25.0, 4, [0]),
        ("haystack", 200, NTSC, 3, [0, 30, 60]),
        ("haystack", 1, 25.0, 3, [0]),
    ],
)
def test_rules_at_their_edges(rule: str, count: int, fps: float, n: int, expected: list[int]) -> None:
    plan = sample(FrameRequest(rule, n), count, fps)
    assert list(plan.indices) == expected
    assert plan.times_s == tuple(i / fps for i in expected)
    assert (plan.rule, plan.frame_count, plan.native_fps) == (rule, count, fps)


def mvbench_index(bound: tuple[float, float], fps: float, max_frame: int, segments: int) -> list[int]:
    """The index arithmetic of MVBench's notebook, literally."""
    start, end = max(0, round(bound[0] * fps)), min(round(bound[1] * fps), max_frame)
    segment = float(end - start) / segments
    return [int(start + (segment / 2) + round(segment * i)) for i in range(segments)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(200, 5000),
    st.sampled_from([10.0, NTSC_FILM, 25.0, NTSC]),
    st.integers(1, 32),
    st.floats(0, 3),
    st.floats(4, 6),
)
def test_midpoints_of_a_crop_are_those_of_mvbench(count: int, fps: float, n: int, start: float, end: float) -> None:
    window = min(round(end * fps), count - 1) - round(start * fps) + 1
    if n > window:
        return
    plan = sample(FrameRequest("midpoints", n), count, fps, start, end)
    literal = mvbench_index((start, end), fps, count - 1, n)
    # the same sum in another order: halves may fall to the other side of an integer
    assert all(abs(a - b) <= 1 for a, b in zip(plan.indices, literal, strict=True))
    assert sum(a != b for a, b in zip(plan.indices, literal, strict=True)) == 0 or (window - 1) / n / 2 % 1 > 0.999


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(RULES)),
    st.integers(1, 20_000),
    st.one_of(st.floats(0.05, 240), st.sampled_from([NTSC_FILM, NTSC, 25.0, 30.0, 59.94])),
    st.integers(0, 3000),
    st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]),
    st.sampled_from([1, 2, 4]),
    st.one_of(st.none(), st.floats(0, 60)),
    st.one_of(st.none(), st.floats(0, 120)),
)
def test_every_plan_is_sorted_in_range_and_within_its_limit(
    rule: str, count: int, fps: float, n: int, rate: float, multiple: int, start: float | None, end: float | None
) -> None:
    request = FrameRequest(rule, n or (0 if RULES[rule].unlimited else 1), rate, 4.0, multiple)
    try:
        plan = sample(request, count, fps, start, end)
    except VideoError as error:
        assert error.kind == "too_short"
        return
    assert list(plan.indices) == sorted(plan.indices)
    if rule != "midpoints":  # rounded as published, it may meet a frame twice where almost all frames are asked for
        assert len(set(plan.indices)) == len(plan)
    assert plan.indices[0] >= 0 and plan.indices[-1] < count
    assert len(plan) % multiple == 0 and len(plan) > 0
    assert not request.max_frames or len(plan) <= request.max_frames
    assert len(plan.times_s) == len(plan.indices)
    if start is not None:
        assert plan.indices[0] >= math.floor(start * fps)
    if end is not None:
        assert plan.indices[-1] <= math.ceil(end * fps)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (FrameRequest("unifrom", 8), 'Did you mean "uniform"'),
        (FrameRequest("uniform", 0), "max_frames is 0"),
        (FrameRequest("uniform", -3), "max_frames is -3"),
        (FrameRequest("fps", 8, fps=0), "fps is 0"),
        (FrameRequest("fps", 8, fps=math.nan), "fps is nan"),
        (FrameRequest("uniform", 8, max_fps=-1), "max_fps"),
        (FrameRequest("uniform", 8, multiple_of=0), "multiple_of"),
        (FrameRequest("uniform", 8, resize=(24, 24)), "resize is (24, 24)"),
        (FrameRequest("uniform", 8, resample="bicubik"), 'Did you mean "bicubic"'),
    ],
)
def test_requests_that_cannot_work_say_why(request_: FrameRequest, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        sample(request_, 100, 25.0)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("count", "fps", "start", "end", "kind"),
    [(0, 25.0, None, None, "too_short"), (10, 0.0, None, None, "damaged"), (10, math.nan, None, None, "damaged"),
     (50, 25.0, 10.0, 12.0, "too_short"), (50, 25.0, 1.5, 0.5, "too_short")],
)  # fmt: skip
def test_videos_with_nothing_to_give(count: int, fps: float, start: float, end: float, kind: str) -> None:
    with pytest.raises(VideoError) as error:
        sample(FrameRequest("uniform", 4), count, fps, start, end)
    assert error.value.kind == kind
