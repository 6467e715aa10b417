"""What damaged video files are read as: refused, read right, marked as doubtful, or wrong.

Files of ten codecs in six containers are damaged in six ways (seeded) and read as a run reads them. Every frame is
compared with a sequential decode of the intact file; damage that no frame depends on leaves them equal.

    refused            an error that names the file
    equal              all frames, and their number, are those of the intact file
    doubtful           wrong frames or another number of them, and a remark that says so in every record
    no sign            wrong frames without a remark, where a complete sequential decode in one thread gives no error,
                       no corrupt frame and no message either: codecs have no checksums
    WRONG IN SILENCE   wrong frames without a remark, although such a decode shows the damage; must be 0

    python benchmarks/video_fuzz.py [--files 600] [--seed 0]     # a minute or two on one core
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np

from evalkit.errors import VideoError
from evalkit.video.index import logged_errors
from evalkit.video.info import BackendFailed
from evalkit.video.pyav import PyAVDecoder

COUNT, HEIGHT, WIDTH, RATE = 60, 96, 128, 25
EVERY = 4
REFUSED, EQUAL, DOUBTFUL, NO_SIGN, WRONG = "refused", "equal", "doubtful", "no sign", "WRONG IN SILENCE"
OUTCOMES = (REFUSED, EQUAL, DOUBTFUL, NO_SIGN, WRONG)


@dataclass(frozen=True)
class Source:
    """How an intact file is encoded."""

    codec: str
    suffix: str
    options: dict[str, str] = field(default_factory=dict)
    pix_fmt: str = "yuv420p"
    muxer: dict[str, str] = field(default_factory=dict)


H264 = {"preset": "medium", "g": "12", "bf": "2", "sc_threshold": "0"}
X265 = "pools=none:frame-threads=1:log-level=none:keyint=12:min-keyint=12:scenecut=0:bframes=2:rc-lookahead=12"
VP9 = {"g": "12", "deadline": "realtime", "cpu-used": "5"}
SOURCES: dict[str, Source] = {
    "h264 mp4": Source("libx264", ".mp4", H264, muxer={"movflags": "+faststart"}),
    "h264 mkv": Source("libx264", ".mkv", H264),
    "h264 mkv live": Source("libx264", ".mkv", H264, muxer={"live": "1"}),
    "h264 ts": Source("libx264", ".ts", H264),
    "h264 avi": Source("libx264", ".avi", H264),
    "hevc mp4": Source("libx265", ".mp4", {"preset": "fast", "x265-params": X265}),
    "hevc 10 bit mkv": Source("libx265", ".mkv", {"preset": "fast", "x265-params": X265}, "yuv420p10le"),
    "hevc 10 bit mp4": Source("libx265", ".mp4", {"preset": "fast", "x265-params": X265}, "yuv420p10le"),
    "vp8 webm": Source("libvpx", ".webm", VP9),
    "vp9 webm": Source("libvpx-vp9", ".webm", VP9),
    "vp9 webm live": Source("libvpx-vp9", ".webm", VP9, muxer={"live": "1"}),
    "vp9 mp4": Source("libvpx-vp9", ".mp4", VP9),
    "av1 mp4": Source("libsvtav1", ".mp4", {"preset": "12", "g": "12", "svtav1-params": "lp=1"}),
    "mpeg4 avi": Source("mpeg4", ".avi", {"g": "12", "bf": "2"}),
    "mpeg2 ts": Source("mpeg2video", ".ts", {"g": "12", "bf": "2", "b:v": "1M"}),
    "mjpeg avi": Source("mjpeg", ".avi", {"q:v": "3"}, "yuvj420p"),
    "mjpeg mov": Source("mjpeg", ".mov", {"q:v": "3"}, "yuvj420p"),
    "prores mov": Source("prores_ks", ".mov", {}, "yuv422p10le"),
    "ffv1 mkv": Source("ffv1", ".mkv", {"level": "3", "slicecrc": "1"}),
}


def pictures() -> Iterator[np.ndarray]:
    """Textured frames that all differ: two layers that move against each other."""
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 200, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    fine = rng.integers(0, 55, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    for i in range(COUNT):
        yield np.roll(coarse, 2 * i, 1) + np.roll(fine, -3 * i, 0)


def encode(source: Source, path: Path) -> None:
    with av.open(str(path), "w", options=source.muxer) as container:
        stream = container.add_stream(source.codec, rate=RATE, options=source.options)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, source.pix_fmt
        stream.codec_context.thread_count = 1
        for i, image in enumerate(pictures()):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def sequential(path: Path) -> list[np.ndarray]:
    """Every frame from the first on, the plain way."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def shows_damage(path: Path) -> bool:
    """Whether a complete sequential decode of the file, in one thread, shows that it is damaged."""
    with logged_errors() as log:
        try:
            with av.open(str(path)) as container:
                stream = container.streams.video[0]
                stream.codec_context.thread_count = 1
                corrupt = any(frame.is_corrupt for frame in container.decode(stream))
        except av.error.FFmpegError:
            return True
    return corrupt or bool(log)


def _cut(data: bytearray, rng: np.random.Generator) -> None:
    del data[int(rng.integers(len(data) // 10, len(data))) :]


def _hole(data: bytearray, rng: np.random.Generator) -> None:
    size = int(min(2 ** rng.uniform(5, 14), len(data) // 2))
    at = int(rng.integers(0, len(data) - size))
    data[at : at + size] = bytes(size)


def _overwritten(data: bytearray, rng: np.random.Generator) -> None:
    size = int(min(2 ** rng.uniform(4, 12), len(data) // 2))
    at = int(rng.integers(0, len(data) - size))
    data[at : at + size] = rng.bytes(size)


def _bits_flipped(data: bytearray, rng: np.random.Generator) -> None:
    for at in rng.integers(0, len(data), int(rng.integers(1, 21))):
        data[int(at)] ^= 1 << int(rng.integers(8))


def _bytes_missing(data: bytearray, rng: np.random.Generator) -> None:
    at = int(rng.integers(0, len(data) - 1))
    del data[at : at + int(2 ** rng.uniform(0, 12))]


def _blocks_swapped(data: bytearray, rng: np.random.Generator) -> None:
    """Two blocks of 512 bytes in each other's place, as after a broken copy."""
    if len(data) < 2048:
        return
    a, b = sorted(512 * int(i) for i in rng.choice(len(data) // 512, 2, replace=False))
    data[a : a + 512], data[b : b + 512] = data[b : b + 512], data[a : a + 512]


DAMAGES: dict[str, Callable[[bytearray, np.random.Generator], None]] = {
    "cut": _cut,
    "hole": _hole,
    "overwritten": _overwritten,
    "bits flipped": _bits_flipped,
    "bytes missing": _bytes_missing,
    "blocks swapped": _blocks_swapped,
}


@dataclass(frozen=True)
class Fuzz:
    """Makes and reads damaged files in `folder`."""

    folder: Path

    @cache  # noqa: B019 - one instance a process
    def intact(self, name: str) -> tuple[bytes, list[np.ndarray]]:
        """The file, and what sequential decoding gives."""
        source = SOURCES[name]
        path = self.folder / f"{name.replace(' ', '_')}{source.suffix}"
        encode(source, path)
        return path.read_bytes(), sequential(path)

    def damaged(self, name: str, damage: str, seed: int) -> Path:
        data = bytearray(self.intact(name)[0])
        DAMAGES[damage](data, np.random.default_rng([seed, *map(ord, name + damage)]))
        path = self.folder / f"damaged{SOURCES[name].suffix}"
        path.write_bytes(data)
        return path

    def outcome(self, name: str, path: Path) -> tuple[str, str]:
        """One of REFUSED, EQUAL, DOUBTFUL and WRONG, and what was said or found."""
        expected = self.intact(name)[1]
        try:
            decoder = PyAVDecoder(path)
            count = decoder.info.frame_count
            wanted = list(range(0, count, EVERY))
            wrong = [
                i
                for i, frame in zip(wanted, decoder.frames(wanted), strict=True)
                if i >= len(expected) or not np.array_equal(frame, expected[i])
            ]
            decoder.close()
        except (VideoError, BackendFailed) as error:
            return REFUSED, str(error)
        said = "; ".join(decoder.remarks)
        if not wrong and count == len(expected):
            return EQUAL, said
        if decoder.remarks:
            return DOUBTFUL, said
        found = f"{count} of {len(expected)} frames, wrong: {wrong}"
        return (WRONG if shows_damage(path) else NO_SIGN), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="sources whose name contains this")
    options = parser.parse_args()
    names = [name for name in SOURCES if options.only in name]
    rounds = -(-options.files // (len(names) * len(DAMAGES)))
    table: dict[str, Counter[str]] = {name: Counter() for name in names}
    with tempfile.TemporaryDirectory() as folder:
        fuzz = Fuzz(Path(folder))
        for name in names:
            path = fuzz.folder / f"intact{SOURCES[name].suffix}"
            path.write_bytes(fuzz.intact(name)[0])
            what, said = fuzz.outcome(name, path)
            assert what == EQUAL, f"{name}, intact: {what}, {said}"
            table[name]["remark on the intact file"] += bool(said)
            for damage in DAMAGES:
                for number in range(rounds):
                    seed = options.seed + number
                    what, said = fuzz.outcome(name, fuzz.damaged(name, damage, seed))
                    table[name][what] += 1
                    if what in (NO_SIGN, WRONG):
                        print(f"{what}: {name}, {damage}, seed {seed}: {said}", flush=True)
    columns = ["files", *OUTCOMES, "remark on the intact file"]
    print("".join(f"{column:>{len(column) + 3}}" for column in ["codec".ljust(16), *columns]))
    for name in [*table, "all"]:
        counts = table[name] if name in table else sum(table.values(), Counter())
        counts = counts | Counter(files=sum(counts[what] for what in OUTCOMES))
        print(f"   {name:<16}" + "".join(f"{counts[column]:>{len(column) + 3}}" for column in columns))


if __name__ == "__main__":
    main()
