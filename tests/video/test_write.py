"""Files and pictures the miniature benchmarks are made of: exact counts and rates, colours that can be read back."""

from __future__ import annotations

import itertools
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from evalkit.errors import DataError
from evalkit.video.scenes import PALETTE, Scene, film, nearest_colour, picture, text_mask
from evalkit.video.write import write_video


def test_palette_colours_are_well_apart() -> None:
    assert len(PALETTE) == 12
    for one, other in itertools.combinations(PALETTE.values(), 2):
        assert sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5 >= 80


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_every_colour_survives_encoding(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "colours.mp4"
    timeline = [Scene(i, i + 1, name) for i, name in enumerate(PALETTE)]
    assert write_video(path, film(timeline, 4), 4, codec) == 48
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 48
        assert container.streams.video[0].average_rate == 4
        seen = [nearest_colour(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert seen == [name for name in PALETTE for _ in range(4)]


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    timeline = [Scene(0, 3, "blue", "B7"), Scene(1, 2, "red", square="white")]
    paths = [tmp_path / "one.mp4", tmp_path / "two.mp4"]
    for path in paths:
        write_video(path, film(timeline, 8), 8)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_minute_is_written_in_a_moment(tmp_path: Path) -> None:
    timeline = [Scene(0, 60, "gray", "42"), *(Scene(t, t + 1, "red") for t in range(5, 60, 10))]
    started = time.process_time()
    assert write_video(tmp_path / "minute.mp4", film(timeline, 8, (120, 160)), 8) == 480
    assert time.process_time() - started < 1.5


def test_later_scenes_lie_on_top_and_gaps_are_black() -> None:
    frames = list(film([Scene(0, 4, "green"), Scene(1, 2, "pink"), Scene(5, 6, "cyan")], 2))
    assert [nearest_colour(f) for f in frames] == ["green"] * 2 + ["pink"] * 2 + ["green"] * 4 + ["black"] * 2 + [
        "cyan"
    ] * 2


def test_the_square_crosses_the_picture() -> None:
    frames = list(film([Scene(0, 2, "black", square="yellow")], 5))
    left = [int(np.argmax((f[len(f) // 2] == PALETTE["yellow"]).all(-1))) for f in frames]
    assert left == sorted(set(left)) and left[0] == 0


def test_glyphs_look_like_their_letters() -> None:
    rows = ["".join(".#"[int(dot)] for dot in row) for row in text_mask("L1")]
    assert rows == [
        "#.......#..",
        "#......##..",
        "#.......#..",
        "#.......#..",
        "#.......#..",
        "#.......#..",
        "#####..###.",
    ]
    glyphs = {text_mask(chr(c)).tobytes() for c in range(33, 91)}
    assert len(glyphs) == 58
    assert (picture("black", "ABC", (64, 96)) == PALETTE["white"]).any()


def test_what_cannot_be_drawn_or_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no"):
        text_mask("é")
    with pytest.raises(ValueError, match="does not fit"):
        picture("red", "A" * 40, (64, 96))
    with pytest.raises(DataError):
        write_video(tmp_path / "none.mp4", [], 8)


def test_fractional_rates_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "ntsc.mp4"
    write_video(path, film([Scene(0, 1, "red")], 24000 / 1001), 24000 / 1001)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == Fraction(24000, 1001)
