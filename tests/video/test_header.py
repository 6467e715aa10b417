"""What a header says of a video, against what reading all its packets finds."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalkit.errors import VideoError
from evalkit.video import header
from evalkit.video.header import Header, read_header, read_headers
from evalkit.video.index import probe

from .corpus import BROKEN, SOUND, Corpus


@pytest.mark.parametrize("name", SOUND)
def test_a_frame_count_that_is_called_exact_is_that_of_decoding(corpus: Corpus, name: str) -> None:
    info, path = probe(corpus[name]), corpus[name]
    try:
        said = read_header(path)
    except VideoError as error:
        assert error.kind == "unknown" and path.suffix == ".h264"
        return
    assert said.info.native_fps == info.native_fps
    if said.exact:
        assert said.info.frame_count == info.frame_count
    else:
        assert path.suffix != ".mp4" or name == "fragmented.mp4"  # MP4 lists its frames, or nothing would be exact
        assert said.info.duration_s == pytest.approx(9.02 if name == "vfr.mkv" else info.duration_s, abs=0.1)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_an_error_or_is_not_called_exact(corpus: Corpus, name: str) -> None:
    kind, _ = BROKEN[name]
    try:
        assert not read_header(corpus[name]).exact
    except VideoError as error:
        assert error.kind in (kind, "empty")


def test_with_time_enough_packets_tell_what_headers_do_not(corpus: Corpus) -> None:
    paths = [corpus[name] for name in (*SOUND, *BROKEN)]
    found = read_headers(tuple((path, None) for path in paths), 60.0)
    for path in paths:
        said = found[path]
        try:
            assert isinstance(said, Header) and said.exact
            assert said.info.frame_count == probe(path).frame_count
        except VideoError:
            assert isinstance(said, VideoError) and said.kind != "unknown", path
        except AssertionError:
            assert isinstance(said, VideoError), path
            with pytest.raises(VideoError):
                probe(path)


def test_time_that_is_up_leaves_the_rest_unread(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def slow(path: Path, fps: float | None) -> Header:
        time.sleep(0.05)
        return real(path, fps)

    real = header.read_header
    monkeypatch.setattr(header, "read_header", slow)
    links = [tmp_path / f"{i}.mp4" for i in range(200)]
    for link in links:
        link.symlink_to(corpus["closed_gop.mp4"])
    started = time.monotonic()
    found = read_headers(tuple((link, None) for link in links), 0.3)
    assert time.monotonic() - started < 2.0
    assert 0 < len(found) < 200
    assert all(isinstance(said, Header) and said.info.frame_count == 120 for said in found.values())


def test_a_folder_of_pictures(tmp_path: Path) -> None:
    for i in range(7):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    said = read_header(tmp_path, 2.0)
    assert (said.info.frame_count, said.info.native_fps, said.info.duration_s, said.exact) == (7, 2.0, 3.5, True)
    with pytest.raises(VideoError):
        read_header(tmp_path)
