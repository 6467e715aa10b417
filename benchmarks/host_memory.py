"""Host memory for the prefill of 2,048 frames of a 20-minute 1080p file, in addition to that of the loaded model.

    OMP_NUM_THREADS=2 python benchmarks/host_memory.py [--frames 2048] [--minutes 20]

Writes the file (H.264, 5 frames a second) with PyAV first. The sum of the resident memory of the process and its
decoding processes is sampled every 20 ms; shared pages count once for each process. The KV store is in host memory
here; it is included, and also given alone. All frames would take 12.7 GB at native size, and 0.9 GB resized.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from evalkit.models.videoxl2 import VideoXL2Mini
from evalkit.models.videoxl2.settings import FrameSettings, SparsePrefill
from evalkit.types import Context, Decoding, Prompt, Video
from evalkit.video.reader import FrameReader
from evalkit.video.write import write_video

FPS = 5


def scenes(minutes: float) -> Iterator[np.ndarray]:
    """A bar that moves over a picture that changes every ten seconds, 1920 x 1080."""
    random = np.random.default_rng(0)
    for i in range(int(minutes * 60 * FPS)):
        if i % (10 * FPS) == 0:
            picture = random.integers(0, 256, (27, 48, 3), dtype=np.uint8).repeat(40, 0).repeat(40, 1)
        image = picture.copy()
        image[:, 8 * i % 1900 : 8 * i % 1900 + 16] = 255
        yield image


class Resident:
    """Highest resident memory of this process and its children while the block runs."""

    def __enter__(self) -> Resident:
        self.before = self.peak = self.now()
        self.running = True
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def now(self) -> int:
        me, total = psutil.Process(), 0
        for process in (me, *me.children(recursive=True)):
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return total

    def watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, self.now())
            time.sleep(0.02)

    def __exit__(self, *error: object) -> None:
        self.running = False
        self.thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2048)
    parser.add_argument("--minutes", type=float, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        video = Video("long", Path(folder) / "long.mp4")
        write_video(video.path, scenes(options.minutes), FPS)
        settings = VideoXL2Mini(frames=FrameSettings("uniform", options.frames), sparse_prefill=SparsePrefill(True))
        model = settings.build()
        with Resident() as memory:
            with FrameReader() as reader:
                cache = model.prefill(Context(video, reader.open(video, settings.frames_wanted())))
            model.generate(cache, Prompt("What is shown?\nA. this\nB. that"), Decoding())
        cost = cache.cost
        print(f"{cost.frames} frames of {options.minutes:g} minutes at 1920 x 1080, {cost.context_tokens:,} tokens")
        print(
            f"video decoding {cost.video_decode_s:.0f} s, vision {cost.vision_s:.0f} s, prefill {cost.prefill_s:.1f} s"
        )
        print(f"model loaded           {memory.before / 2**20:8.0f} MiB")
        print(f"highest above that     {(memory.peak - memory.before) / 2**20:8.0f} MiB")
        print(f"  of which KV store    {cost.kv_bytes / 2**20:8.0f} MiB")


if __name__ == "__main__":
    main()
