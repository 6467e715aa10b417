"""A sample of benchmarks/video_fuzz.py, and the damage that once went unnoticed, file by file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.video_fuzz import DAMAGES, DOUBTFUL, EQUAL, REFUSED, SOURCES, WRONG, Fuzz
from evalkit.errors import VideoError
from evalkit.video.declared import checksums
from evalkit.video.index import build_index
from evalkit.video.pyav import PyAVDecoder

from .corpus import Corpus


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Fuzz:
    return Fuzz(tmp_path_factory.mktemp("fuzz"))


SAMPLE = ["h264 mp4", "h264 ts", "h264 avi", "vp9 webm live", "vp9 mp4", "mpeg2 ts", "mjpeg mov"]


def test_no_damage_that_shows_is_passed_over_in_silence(fuzz: Fuzz) -> None:
    found = Counter()
    for name in SAMPLE:
        for seed, damage in enumerate(DAMAGES):
            what, said = fuzz.outcome(name, fuzz.damaged(name, damage, seed))
            assert what != WRONG, f"{name}, {damage}: {said}"
            found[what] += 1
    assert found[REFUSED] > 30 and sum(found.values()) == 42


@pytest.mark.parametrize("name", ["hevc 10 bit mkv", "vp9 webm", "vp9 mp4", "h264 mp4", "h264 avi"])
def test_a_hole_is_refused(fuzz: Fuzz, name: str) -> None:
    data, _ = fuzz.intact(name)
    for share in (0.3, 0.5, 0.8):
        path = fuzz.folder / f"hole{SOURCES[name].suffix}"
        start = int(share * len(data))
        path.write_bytes(data[:start] + bytes(300) + data[start + 300 :])
        what, said = fuzz.outcome(name, path)
        assert what == REFUSED, f"{share}: {what}, {said}"


def test_the_second_file_with_the_same_damage_is_refused_as_well(fuzz: Fuzz) -> None:
    """FFmpeg's messages equal to the last one count too."""
    data, _ = fuzz.intact("vp9 webm live")
    for number in range(3):
        path = fuzz.folder / f"copy{number}.webm"
        path.write_bytes(data[: len(data) * 6 // 10])
        with pytest.raises(VideoError):
            list(PyAVDecoder(path).frames([0]))


def test_flipped_bytes_in_codecs_without_checks_are_refused_or_remarked(fuzz: Fuzz) -> None:
    for name in ("vp8 webm", "hevc 10 bit mp4", "mjpeg mov"):
        for seed in range(3):
            what, said = fuzz.outcome(name, fuzz.damaged(name, "bits flipped", seed))
            assert what in (REFUSED, DOUBTFUL, EQUAL), f"{name}, seed {seed}: {said}"


def test_intact_files_of_common_codecs_get_no_remark(corpus: Corpus) -> None:
    names = ["closed_gop.mp4", "open_gop.mp4", "slices.mp4", "vp9.webm", "vp9_two_layers.webm", "av1.mp4", "mkv.mkv"]
    assert [build_index(corpus[name]).remarks for name in names] == [()] * len(names)


def test_the_checksums_of_clusters_are_checked(corpus: Corpus, tmp_path: Path) -> None:
    data = bytearray(corpus["mkv.mkv"].read_bytes())
    assert checksums(corpus["mkv.mkv"]) == (True, "")
    assert checksums(corpus["vp9.webm"]) == (False, "")  # WebM has none
    for at in np.random.default_rng(2).integers(2000, len(data) - 2000, 5):
        changed = bytearray(data)
        changed[at] ^= 1
        path = tmp_path / "changed.mkv"
        path.write_bytes(changed)
        with pytest.raises(VideoError, match=r"is damaged: .*"):
            build_index(path)
