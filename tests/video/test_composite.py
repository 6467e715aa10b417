"""Pictures as videos: folders of frames, and a picture among the frames of a longer video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.errors import VideoError
from evalkit.types import Composite, FrameRequest, Video
from evalkit.video.reader import FrameReader
from evalkit.video.resize import FixedSize
from evalkit.video.sampling import RULES
from evalkit.video.scenes import PALETTE, Scene, film, nearest_colour, picture
from evalkit.video.settings import VideoSettings
from evalkit.video.write import write_video

COLOURS = list(PALETTE)
SIZE = (48, 64)


@pytest.fixture(scope="module")
def reader():
    with FrameReader(VideoSettings(workers=1)) as reader:
        yield reader


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 s at 4 frames a second; second s has the colour s % 11 of the palette, pink is kept for the needle."""
    path = tmp_path_factory.mktemp("composite") / "movie.mp4"
    plain = [colour for colour in COLOURS if colour != "pink"]
    write_video(path, film([Scene(s, s + 1, plain[s % 11]) for s in range(120)], 4, SIZE), 4)
    return path


@pytest.fixture(scope="module")
def needle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("needle") / "needle.png"
    Image.fromarray(picture("pink", "", (30, 90))).save(path)
    return path


def seen(reader: FrameReader, video: Video, request: FrameRequest) -> list[str]:
    stream = reader.open(video, request)
    return [nearest_colour(frame) for batch in stream.batches(7) for frame in batch]


@pytest.mark.parametrize("rule", ["haystack", "uniform"])
@pytest.mark.parametrize("multiple_of", [1, 4])
@pytest.mark.parametrize("depth", [0.0, 0.2, 0.5, 1.0])
def test_the_picture_stands_behind_its_share_of_the_frames(reader, movie, needle, rule, multiple_of, depth) -> None:
    request = FrameRequest("video_xl_2", 8, multiple_of=multiple_of)  # neither its rule nor its limit is asked
    colours = seen(reader, Video("v", movie, composite=Composite(rule, 50, needle, depth)), request)
    haystack = 50 if multiple_of == 1 else 51
    picked = RULES[rule](FrameRequest(rule, haystack), 480, 4.0)
    plain = [colour for colour in COLOURS if colour != "pink"]
    expected = [plain[int(i / 4) % 11] for i in picked]
    expected.insert(int(depth * haystack), "pink")
    assert len(colours) % multiple_of == 0
    assert colours == expected


def test_the_plan_is_a_video_of_its_own(reader, movie, needle) -> None:
    request = FrameRequest("uniform", 8, multiple_of=4, resize=FixedSize(24, 24))
    stream = reader.open(Video("v", movie, composite=Composite("haystack", 20, needle, 0.5)), request)
    plan = stream.plan
    assert (plan.rule, plan.frame_count, plan.native_fps) == ("haystack", 24, 1.0)
    assert plan.indices == tuple(range(24)) and plan.times_s[:3] == (0.0, 1.0, 2.0)
    (frames,) = stream.batches(24)
    assert frames.shape == (24, 24, 24, 3)


def test_a_control_has_no_picture(reader, movie) -> None:
    colours = seen(
        reader, Video("v", movie, composite=Composite("haystack", 20)), FrameRequest("uniform", 8, multiple_of=4)
    )
    assert len(colours) == 20 and "pink" not in colours


def test_a_haystack_that_is_too_short_costs_the_cell(reader, movie, needle) -> None:
    with pytest.raises(VideoError, match=r"finds 120 frames in its 120 s, and 200 are wanted") as error:
        reader.open(Video("v", movie, composite=Composite("haystack", 200, needle, 0.5)), FrameRequest("uniform", 8))
    assert error.value.kind == "too_short"


def test_a_needle_that_is_no_picture_costs_the_cell(reader, movie, tmp_path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG not really")
    for path, kind in ((broken, "damaged"), (tmp_path / "none.png", "missing")):
        with pytest.raises(VideoError) as error:
            reader.open(Video("v", movie, composite=Composite("haystack", 20, path, 0.5)), FrameRequest("uniform", 8))
        assert error.value.kind == kind and str(path) in str(error.value)


def test_a_folder_of_pictures_is_a_video(reader, tmp_path) -> None:
    for number in range(1, 31):  # 10 s at 3 a second; their names sort wrongly as text
        Image.fromarray(picture(COLOURS[(number - 1) // 3], "", SIZE)).save(tmp_path / f"{number}.jpg", quality=95)
    (tmp_path / "notes.txt").write_text("not a picture")
    stream = reader.open(Video("v", tmp_path, fps=3.0), FrameRequest("uniform", 10))
    assert (stream.plan.frame_count, stream.plan.native_fps) == (30, 3.0)
    assert stream.decoder.startswith("pillow")
    assert seen(reader, Video("v", tmp_path, fps=3.0), FrameRequest("fps", 0, fps=1.0)) == COLOURS[:10]
    assert seen(reader, Video("v", tmp_path, 2.0, 4.9, fps=3.0), FrameRequest("fps", 0, fps=1.0)) == COLOURS[2:5]


def test_a_folder_must_hold_pictures_and_have_a_pace(reader, tmp_path) -> None:
    with pytest.raises(VideoError, match="folder without pictures"):
        reader.open(Video("v", tmp_path, fps=3.0), FrameRequest("uniform", 4))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "1.png")
    with pytest.raises(VideoError, match="nothing says how many of them make a second"):
        reader.open(Video("v", tmp_path), FrameRequest("uniform", 4))
