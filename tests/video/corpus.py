"""Real video files of every awkward kind, made with PyAV's own encoders in a second or two."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
from av.stream import Disposition

ROOT = Path(__file__).parents[2]
RATE = 25
COUNT = 120
SIZE = (96, 128)
CLOSED = {"preset": "medium", "g": "24", "bf": "3", "sc_threshold": "0"}
OPEN = {"preset": "medium", "g": "24", "bf": "3", "sc_threshold": "0", "x264-params": "open-gop=1"}
TWO_LAYERS = {"g": "30", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}
HEVC = "pools=none:frame-threads=1:log-level=none:keyint=24:min-keyint=24:scenecut=0:bframes=3:rc-lookahead=24"
HEVC_CLOSED = {"preset": "fast", "x265-params": HEVC + ":open-gop=0"}
HEVC_OPEN = {"preset": "fast", "x265-params": HEVC + ":open-gop=1"}


@cache
def pictures(count: int = COUNT, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, ...]:
    """Textured frames that all differ: two layers that move against each other, and noise."""
    height, width = size
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 200, (height // 8, width // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    fine = rng.integers(0, 55, (height, width, 3), dtype=np.uint8)
    return tuple(np.roll(coarse, 2 * i, 1) + np.roll(fine, -3 * i, 0) for i in range(count))


def encode(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
    count: int = COUNT,
    size: tuple[int, int] = SIZE,
    times_ms: Sequence[int] | None = None,
    muxer: dict[str, str] | None = None,
    sound: bool = False,
) -> Path:
    """`times_ms`: a timestamp for each frame, for variable frame rate."""
    base = Fraction(1, 1000) if times_ms else Fraction(1, RATE)
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream = container.add_stream(codec, rate=RATE, options=CLOSED if options is None else options)
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = base
        stream.codec_context.thread_count = 1
        tone = container.add_stream("aac", rate=16000, layout="mono") if sound else None
        for i, image in enumerate(pictures(count, size)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (times_ms[i] if times_ms else i), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            _hum(container, tone, count / RATE)
    return path


def _hum(container: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    samples = (np.sin(np.arange(int(16000 * seconds)) * 0.1) * 9000).astype(np.int16)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
    frame.sample_rate, frame.pts = 16000, 0
    for part in av.AudioResampler(format="fltp", layout="mono", rate=16000, frame_size=1024).resample(frame):
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def copy_from(source: Path, path: Path, start: int, key_at_start: bool) -> Path:
    """A stream copy of `source` from frame `start` on, the way `ffmpeg -ss ... -c copy` cuts: the packets from the key
    frame before are there, and in MP4 an edit list hides those before `start`. `key_at_start`: show them all."""
    with av.open(str(source)) as inside, av.open(str(path), "w") as outside:
        stream = inside.streams.video[0]
        target = outside.add_stream_from_template(stream)
        packets = [p for p in inside.demux(stream) if p.size]
        at = sorted(p.pts for p in packets)[start]
        first = max(n for n, p in enumerate(packets) if p.is_keyframe and p.pts <= at)
        zero = packets[first].pts if key_at_start else at
        for packet in packets[first:]:
            packet.pts, packet.dts, packet.stream = packet.pts - zero, packet.dts - zero, target
            outside.mux(packet)
    return path


def rotate(path: Path) -> Path:
    """Write a quarter turn into the track header's matrix, as a phone held upright does."""
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 44
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 0x10000, 0, -0x10000, 0, 0, SIZE[0] << 16, 0, 0x40000000)
    path.write_bytes(data)
    return path


def repeat_a_picture(path: Path) -> Path:
    """Empty chunk 20 of an AVI, its way of showing chunk 19 for longer. The bytes stay, as a chunk of nobody's."""
    data = bytearray(path.read_bytes())
    index = data.rindex(b"idx1") + 8
    entry = index + 20 * 16
    _, _, offset, size = struct.unpack("<4s3I", data[entry : entry + 16])
    chunk = data.index(b"movi") + offset
    assert data[chunk : chunk + 4] == b"00dc" and size > 8
    data[entry + 12 : entry + 16] = bytes(4)
    data[chunk + 4 : chunk + 16] = bytes(4) + b"JUNK" + struct.pack("<I", size - 8)
    path.write_bytes(data)
    return path


def claim_frames(path: Path, count: int) -> Path:
    """Have the sample table of an MP4 say that there are `count` frames of one byte each."""
    data = bytearray(path.read_bytes())
    table = data.index(b"stsz") + 4
    data[table + 4 : table + 12] = struct.pack(">II", 1, count)
    path.write_bytes(data)
    return path


def cut(source: Path, path: Path, share: float) -> Path:
    data = source.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def overwrite(source: Path, path: Path, share: float, seed: int = 1) -> Path:
    """Random bytes over `share` of the media data, in its middle."""
    data = bytearray(source.read_bytes())
    start = data.index(b"mdat") + 8 if b"mdat" in data else len(data) // 8
    length = int((len(data) - start) * share)
    middle = start + (len(data) - start) // 2
    data[middle : middle + length] = np.random.default_rng(seed).bytes(length)
    path.write_bytes(data)
    return path


def sequential(path: Path) -> list[np.ndarray]:
    """The plain way: every frame from the first on, by PyAV, turned as the file says."""
    with av.open(str(path)) as container:
        return [np.rot90(f.to_ndarray(format="rgb24"), f.rotation % 360 // 90) for f in container.decode(video=0)]


FAST = {"movflags": "+faststart"}


def _vfr() -> list[int]:
    gaps = np.random.default_rng(3).choice([20, 40, 40, 80, 200], COUNT)
    return [0, *np.cumsum(gaps)[:-1].tolist()]


SOUND: dict[str, Callable[[Path], Path]] = {
    "closed_gop.mp4": lambda p: encode(p, muxer=FAST),
    "open_gop.mp4": lambda p: encode(p, options=OPEN),
    "pyramid.mp4": lambda p: encode(p, options={**CLOSED, "bf": "7", "x264-params": "b-pyramid=normal:ref=5"}),
    "intra_refresh.mp4": lambda p: encode(p, options={**CLOSED, "bf": "0", "x264-params": "intra-refresh=1"}),
    "slices.mp4": lambda p: encode(p, options={**CLOSED, "slices": "4"}),
    "field_coded.mp4": lambda p: encode(p, options={**CLOSED, "flags": "+ildct+ilme"}),
    "with_sound.mp4": lambda p: encode(p, sound=True),
    "fragmented.mp4": lambda p: encode(p, muxer={"movflags": "frag_keyframe+empty_moov"}),
    "hevc_closed.mp4": lambda p: encode(p, "libx265", HEVC_CLOSED),
    "hevc_open.mp4": lambda p: encode(p, "libx265", HEVC_OPEN),
    "vp9.webm": lambda p: encode(p, "libvpx-vp9", {"g": "30", "deadline": "realtime", "cpu-used": "5"}),
    "vp9_two_layers.webm": lambda p: encode(p, "libvpx-vp9", TWO_LAYERS),
    "vp8_hidden.webm": lambda p: encode(p, "libvpx", TWO_LAYERS),
    "av1.mp4": lambda p: encode(p, "libsvtav1", {"preset": "12", "g": "30", "svtav1-params": "lp=1"}),
    "mkv.mkv": lambda p: encode(p, sound=True),
    "vfr.mp4": lambda p: encode(p, times_ms=_vfr()),
    "vfr.mkv": lambda p: encode(p, times_ms=_vfr()),
    "ten_bit.mp4": lambda p: encode(p, options={**CLOSED, "profile": "high10"}, pix_fmt="yuv420p10le"),
    "yuv444.mp4": lambda p: encode(p, pix_fmt="yuv444p"),
    "rotated.mp4": lambda p: rotate(encode(p)),
    "edit_list.mp4": lambda p: copy_from(encode(p.with_suffix(".src.mp4")), p, 37, key_at_start=False),
    "edit_list_open_gop.mp4": lambda p: copy_from(encode(p.with_suffix(".src.mp4"), options=OPEN), p, 50, False),
    "cut_at_open_key.mkv": lambda p: copy_from(encode(p.with_suffix(".src.mp4"), options=OPEN), p, 49, True),
    "cut_at_open_key_hevc.mkv": lambda p: copy_from(
        encode(p.with_suffix(".src.mp4"), "libx265", HEVC_OPEN), p, 49, True
    ),
    "one_frame.mp4": lambda p: encode(p, count=1),
    "bframes.avi": lambda p: encode(p),
    "ten_bit_hevc.mkv": lambda p: encode(p, "libx265", HEVC_CLOSED, "yuv420p10le"),
    "mpeg4.avi": lambda p: encode(p, "mpeg4", {"g": "24", "bf": "2"}),
    "repeats.avi": lambda p: repeat_a_picture(encode(p, "mjpeg", {"q:v": "3"}, "yuvj420p", count=30)),
    "transport.ts": lambda p: encode(p),
    "bare.h264": lambda p: encode(p),
    "moving.gif": lambda p: encode(p, "gif", {}, "rgb8", count=30),
    "mjpeg.avi": lambda p: encode(p, "mjpeg", {"q:v": "3"}, "yuvj420p", count=30),
    "Ünïcode name with 'quotes' & 日本語.mp4": lambda p: encode(p),
    "wrong_extension.jpg": lambda p: encode(p.with_suffix(".mp4")).rename(p),
    "colon:in?name%20.mp4": lambda p: encode(p),
}  # fmt: skip
"""Files whose frames can all be had."""


def _text(data: bytes) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        path.write_bytes(data)
        return path

    return make


def _only_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        _hum(container, container.add_stream("aac", rate=16000, layout="mono"), 2.0)
    return path


def _cover(path: Path) -> Path:
    """Sound with a cover picture, which is a video stream to a demuxer."""
    with av.open(str(path), "w") as container:
        tone = container.add_stream("aac", rate=16000, layout="mono")
        cover = container.add_stream("mjpeg", rate=1)
        cover.height, cover.width, cover.pix_fmt = *SIZE, "yuvj420p"
        cover.disposition = Disposition.attached_pic.value
        container.mux(cover.encode(av.VideoFrame.from_ndarray(pictures()[0], format="rgb24")))
        container.mux(cover.encode(None))
        _hum(container, tone, 2.0)
    return path


def _pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


def resized_midway(path: Path) -> Path:
    """Two bare streams of different picture sizes, one after the other."""
    parts = [encode(path.with_suffix(f".{h}.h264"), size=(h, 128), count=30) for h in (96, 64)]
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def _loop(path: Path) -> Path:
    path.symlink_to(path.name)  # nobody may read it, not even root
    return path


def _no_index(path: Path) -> Path:
    data = encode(path).read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    return path


BROKEN: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "half_faststart.mp4": ("damaged", lambda p: cut(encode(p.with_suffix(".src.mp4"), muxer=FAST), p, 0.5)),
    "nearly_whole.mp4": ("damaged", lambda p: cut(encode(p.with_suffix(".src.mp4"), muxer=FAST), p, 0.98)),
    "claims_frames.mp4": ("damaged", lambda p: claim_frames(encode(p), 50_000_000)),
    "half.mkv": ("damaged", lambda p: cut(encode(p.with_suffix(".src.mkv")), p, 0.5)),
    "nearly_whole.mkv": ("damaged", lambda p: cut(encode(p.with_suffix(".src.mkv")), p, 0.97)),
    "half.webm": ("damaged", lambda p: cut(SOUND["vp9.webm"](p.with_suffix(".src.webm")), p, 0.5)),
    "half_fragmented.mp4": ("damaged", lambda p: cut(SOUND["fragmented.mp4"](p.with_suffix(".src.mp4")), p, 0.6)),
    "half.avi": ("damaged", lambda p: cut(SOUND["mpeg4.avi"](p.with_suffix(".src.avi")), p, 0.5)),
    "no_moov.mp4": ("damaged", _no_index),
    "zero.mp4": ("empty", _text(b"")),
    "page.mp4": ("not_video", _text(b"<!DOCTYPE html><html><body>Sign in to continue</body></html>" * 40)),
    "random.mp4": ("not_video", _text(np.random.default_rng(5).bytes(20_000))),
    "playlist.mp4": ("not_video", _text(b"#EXTM3U\n#EXTINF:5,\nclosed_gop.mp4\n#EXT-X-ENDLIST\n")),
    "sound_only.mp4": ("no_video_stream", _only_sound),
    "missing.mp4": ("missing", lambda p: p),
    "folder.mp4": ("not_video", lambda p: p.mkdir() or p),  # type: ignore[func-returns-value]
    "cover.mp4": ("no_video_stream", _cover),
    "pipe.mp4": ("not_video", _pipe),
    "loop.mp4": ("unreadable", _loop),
}
"""Files that cost their questions, with the kind of error."""


@dataclass(frozen=True)
class Corpus:
    """Makes each file once, on first use."""

    folder: Path
    _frames: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def frames(self, name: str) -> list[np.ndarray]:
        """What sequential decoding of the file gives."""
        if name not in self._frames:
            self._frames[name] = sequential(self[name])
        return self._frames[name]

    def __getitem__(self, name: str) -> Path:
        path = self.folder / name
        if not os.path.lexists(path):
            (SOUND[name] if name in SOUND else BROKEN[name][1])(path)
        return path
