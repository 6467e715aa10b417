"""Headers with numbers that overflow or that no file can hold: an error that costs one video, or the right frames."""

from __future__ import annotations

import resource
import struct
from pathlib import Path

import numpy as np
import pytest

from evalkit.errors import VideoError
from evalkit.video.header import read_header
from evalkit.video.index import probe
from evalkit.video.info import BackendFailed
from evalkit.video.pyav import PyAVDecoder

from .corpus import Corpus, claim_frames, encode

HUGE = 2**31 - 1
CLAIMED = 50_000_000

FIELDS = [
    (b"mvhd", 12, (0, HUGE)),  # timescale, duration
    (b"mdhd", 12, (0,)),  # timescale
    (b"mdhd", 12, (HUGE, HUGE)),
    (b"tkhd", 76, (0xFFFF0000, 0xFFFF0000)),  # width, height
    (b"avc1", 24, (0xFFFFFFFF,)),  # width and height of the samples
    (b"stts", 8, (0xFFFFFFFF, 0xFFFFFFFF)),  # count, duration
    (b"stsc", 8, (1, 0xFFFFFFFF)),  # first chunk, samples in it
    (b"stsz", 4, (HUGE, HUGE)),  # size of all samples, count
    (b"stsz", 12, (0xFFFFFFFF,)),  # size of the first sample
    (b"stco", 8, (0xFFFFFFF0,)),  # offset of the first chunk
    (b"ctts", 8, (0xFFFFFFFF, HUGE)),
    (b"stss", 8, (0,)),
]


@pytest.mark.parametrize(("box", "offset", "values"), FIELDS)
def test_a_field_out_of_range(corpus: Corpus, tmp_path: Path, box: bytes, offset: int, values: tuple[int, ...]) -> None:
    expected = corpus.frames("closed_gop.mp4")
    data = bytearray(corpus["closed_gop.mp4"].read_bytes())
    struct.pack_into(f">{len(values)}I", data, data.index(box) + 4 + offset, *values)
    path = tmp_path / "changed.mp4"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        decoder = PyAVDecoder(path)
        assert decoder.info.frame_count == len(expected)
        for i, frame in zip((0, 50, 119), decoder.frames([0, 50, 119]), strict=True):
            assert np.array_equal(frame, expected[i])
    except (VideoError, BackendFailed) as error:
        assert str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def claim_in_fragment(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(">I", data, data.index(b"trun") + 8, CLAIMED)
    path.write_bytes(data)
    return path


def claim_in_avi(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, CLAIMED)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, CLAIMED)
    path.write_bytes(data)
    return path


def test_a_number_of_frames_that_the_file_cannot_hold_takes_no_memory(tmp_path: Path) -> None:
    fragmented = {"movflags": "frag_keyframe+empty_moov"}
    files = [
        claim_frames(encode(tmp_path / "table.mp4"), CLAIMED),
        claim_in_fragment(encode(tmp_path / "fragment.mp4", muxer=fragmented)),
    ]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in files:
        for read in (probe, read_header):
            with pytest.raises(VideoError, match=f"declares {CLAIMED} frames"):
                read(path)
    avi = claim_in_avi(encode(tmp_path / "count.avi", "mjpeg", {"q:v": "3"}, "yuvj420p", count=30))
    assert probe(avi).frame_count == 30
    with pytest.raises(VideoError, match=f"declares {CLAIMED} frames"):
        read_header(avi)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB
