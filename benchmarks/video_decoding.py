"""The processor time of video decoding for a benchmark, as lmms-eval, Video-XL-2's evaluation and evalkit decode.

lmms-eval and Video-XL-2 decode a video again for each question: lmms-eval from frame 0 with PyAV, keeping the frames
it needs; Video-XL-2 with decord's `get_batch`. evalkit decodes each video once for all its questions, by seeking, in a
separate process. That all three give the same frames at the model's size is checked bit for bit.

    python benchmarks/video_decoding.py                     # one or two minutes
    python benchmarks/video_decoding.py --minutes 10 --frames 256 --videos 3
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import decord
import numpy as np
import psutil
from PIL import Image

from evalkit.errors import VideoError
from evalkit.types import FrameRequest, FrameStream, Video
from evalkit.video.pyav import DOUBT, PyAVDecoder
from evalkit.video.reader import FrameReader
from evalkit.video.resize import FixedSize
from evalkit.video.settings import VideoSettings
from evalkit.video.write import write_video

SIZE = (384, 384)
RATE = 25


def scenery(count: int, height: int, width: int, seed: int) -> Iterator[np.ndarray]:
    """Large moving shapes under noise, which compress like a film."""
    rng = np.random.default_rng(seed)
    shapes = rng.integers(0, 100, (height // 20 + 1, width // 10 + 1, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    grain = rng.integers(0, 12, (height, width + 64, 3), dtype=np.uint8)
    for i in range(count):
        left, shift = 3 * i % width, int(rng.integers(0, 64))
        yield shapes[:height, left : left + width] + grain[:, shift : shift + width] + np.uint8(40)


def resized(frame: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize(SIZE[::-1], Image.Resampling.BICUBIC))


def read_as_lmms_eval(path: Path, wanted: list[int]) -> list[np.ndarray]:
    """Sequentially from frame 0 to the last wanted one (lmms-eval, `read_video_pyav`), then resized."""
    kept, chosen = [], set(wanted)
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i in chosen:
                kept.append(frame)
            if i >= wanted[-1]:
                break
    return [resized(frame.to_ndarray(format="rgb24")) for frame in kept]


def read_as_video_xl_2(path: Path, wanted: list[int]) -> list[np.ndarray]:
    """decord, all wanted frames in one batch at native resolution, then resized."""
    return [resized(f) for f in decord.VideoReader(str(path), ctx=decord.cpu(0)).get_batch(wanted).asnumpy()]


def cpu_s() -> float:
    """Processor seconds of this process and of its ended child processes."""
    own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime


def once_a_question(
    read: Callable[[Path, list[int]], list[np.ndarray]], paths: list[Path], wanted: list[int], questions: int
) -> float:
    started = cpu_s()
    for path in paths:
        for _ in range(questions):
            read(path, wanted)
    return cpu_s() - started


def once_a_video(paths: list[Path], request: FrameRequest) -> float:
    started = cpu_s()
    with FrameReader(VideoSettings(workers=1)) as reader:
        for stream in reader.open_ahead((Video(p.stem, p), request) for p in paths):
            exhaust(stream)
    while psutil.Process().children():  # the time of child processes is known when they have ended
        time.sleep(0.01)
    return cpu_s() - started


def compare(paths: list[Path], request: FrameRequest, wanted: list[int]) -> None:
    print(f"Processor seconds for decoding {len(paths)} videos, {len(wanted)} frames each, to {SIZE[0]}x{SIZE[1]}")
    print(f"  {'questions a video':<20}{'lmms-eval':>12}{'Video-XL-2':>12}{'evalkit':>12}{'ratios':>18}")
    for questions, at_least in ((15, 12.0), (3, 2.5)):
        lmms = once_a_question(read_as_lmms_eval, paths, wanted, questions)
        xl = once_a_question(read_as_video_xl_2, paths, wanted, questions)
        ours = once_a_video(paths, request)
        verdict = "ok" if min(lmms, xl) / ours >= at_least else "MISSED"
        ratios = f"{lmms / ours:.1f}x {xl / ours:.1f}x"
        print(
            f"  {questions:<20}{lmms:>11.1f}s{xl:>11.1f}s{ours:>11.1f}s{ratios:>18}   at least {at_least:g}x: {verdict}"
        )


def check_equal(path: Path, request: FrameRequest, wanted: list[int]) -> None:
    with FrameReader(VideoSettings(workers=1)) as reader:
        stream = reader.open(Video("v", path), request)
        ours = np.concatenate(list(stream.batches(16)))
        assert list(stream.plan.indices) == wanted
    for name, read in (("lmms-eval", read_as_lmms_eval), ("Video-XL-2", read_as_video_xl_2)):
        same = np.array_equal(ours, np.stack(read(path, wanted)))
        print(f"  frames equal those of {name}: {'yes, all ' + str(len(wanted)) + ', bit for bit' if same else 'NO'}")


def waiting(paths: list[Path], request: FrameRequest) -> None:
    """Print how long a model waits for frames if it works 1.5 times as long on a video as reading it takes. It sleeps
    here, as the CPU is idle while a GPU works."""
    pairs = [(Video(p.stem, p), request) for p in paths for _ in range(3)]
    busy_s = 0.0
    print("Share of wall time in which the model waits for frames")
    for name, ahead in (("decoding when asked", False), ("decoding ahead", True)):
        waits: list[float] = []
        started = time.perf_counter()
        with FrameReader(VideoSettings(workers=1)) as reader:
            streams = reader.open_ahead(pairs) if ahead else (reader.open(*pair) for pair in pairs)
            while True:
                asked = time.perf_counter()
                stream = next(streams, None)
                if stream is None:
                    break
                exhaust(stream)
                waits.append(time.perf_counter() - asked)
                busy_s = busy_s or 1.5 * waits[0]
                time.sleep(busy_s)
        total = time.perf_counter() - started
        share = f"{sum(waits):6.1f} s of {total:5.1f} s = {sum(waits) / total:4.0%}"
        print(f"  {name:<20}{share}, {waits[0]:.1f} s for the first video; {len(pairs)} of {busy_s:.1f} s work each")


def exhaust(stream: FrameStream | VideoError) -> None:
    if isinstance(stream, VideoError):
        raise stream
    for _ in stream.batches(16):
        pass


def crossover(folder: Path, height: int, width: int) -> None:
    """Compare seeking to the next key frame with reading on, for one frame in each group of 16."""
    path = folder / f"groups_{height}.mp4"
    write_video(path, scenery(480, height, width, 9), RATE, options={"preset": "veryfast", "g": "16", "crf": "26"})
    print(
        f"Seek or read on, {width}x{height}: processor ms for one frame in each group of 16, by its place in the group"
    )
    for place in range(0, 13, 2):
        wanted = list(range(place, 480, 16))
        cost = {}
        for read_on in (0, 1_000):
            decoder = PyAVDecoder(path, threads=1, read_on=read_on)
            tries = []
            for _ in range(3):
                started = time.process_time()
                assert sum(1 for _ in decoder.frames(wanted)) == len(wanted)
                tries.append((time.process_time() - started) / len(wanted) * 1000)
            cost[read_on] = min(tries)
        left_out = max(0, 16 - place - DOUBT - 1)
        costs = f"seek {cost[0]:6.2f}   read on {cost[1_000]:6.2f}"
        print(f"  place {place:>2}, a seek leaves out {left_out:>2} packets: {costs}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--videos", type=int, default=2)
    parser.add_argument("--height", type=int, default=360)
    arguments = parser.parse_args()
    height, width = arguments.height, arguments.height * 16 // 9
    count = int(arguments.minutes * 60 * RATE)
    request = FrameRequest("uniform", arguments.frames, resize=FixedSize(*SIZE))
    with tempfile.TemporaryDirectory() as name:
        paths = []
        for i in range(arguments.videos):
            paths.append(Path(name) / f"video_{i}.mp4")
            options = {"preset": "veryfast", "g": "250", "crf": "26"}
            write_video(paths[-1], scenery(count, height, width, i), RATE, options=options)
        print(f"{len(paths)} videos of {arguments.minutes:g} min, {width}x{height}, H.264, key frame every 10 s\n")
        wanted = np.linspace(0, count - 1, arguments.frames).astype(int).tolist()
        compare(paths, request, wanted)
        check_equal(paths[0], request, wanted)
        print()
        waiting(paths, request)
        print()
        crossover(Path(name), height, width)


if __name__ == "__main__":
    main()
