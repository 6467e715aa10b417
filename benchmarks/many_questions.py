"""The time of 15 questions on one video compared with one question: video decoding, vision, prefill and answers.

    OMP_NUM_THREADS=2 python benchmarks/many_questions.py [--frames 128] [--questions 15]

The miniature of Video-XL-2 on a generated video file. `again for each`: decoding, encoding and prefilling the video
again for each question, as harnesses do that iterate over questions. Times are the fastest of the rounds; each round
measures both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from bench import table

from evalkit.model import VideoModel
from evalkit.models.videoxl2 import VideoXL2Mini
from evalkit.models.videoxl2.settings import (
    BilevelDecode,
    BudgetSettings,
    FrameSettings,
    SparsePrefill,
)
from evalkit.types import Context, Decoding, Prompt, Video
from evalkit.video.reader import FrameReader
from evalkit.video.write import write_video

SECONDS, FPS = 60, 24


def scenes() -> Iterator[np.ndarray]:
    """A square that moves over a changing gradient, 640 x 360."""
    rows, columns = np.mgrid[:360, :640]
    for i in range(SECONDS * FPS):
        image = np.stack([(rows + i) % 256, (columns // 2) % 256, (rows + columns + 2 * i) % 256], 2).astype(np.uint8)
        x, y = 7 * i % 560, 3 * i % 280
        image[y : y + 80, x : x + 80] = (i * 5) % 256
        yield image


def ask(model: VideoModel, reader: FrameReader, settings: VideoXL2Mini, video: Video, questions: range) -> None:
    """Decode and prefill one video, and answer its questions."""
    cache = model.prefill(Context(video, reader.open(video, settings.frames_wanted())))
    for number in questions:
        prompt = Prompt(f"What happens at {number} seconds?\nA. this\nB. that\nAnswer.", question_id=str(number))
        model.generate(cache, prompt, Decoding(max_new_tokens=16))
    cache.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=128)
    parser.add_argument("--questions", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    kinds = {
        "full": {},
        "chunked": {"sparse_prefill": SparsePrefill(True)},
        "chunked, bi-level": {
            "sparse_prefill": SparsePrefill(True),
            "bilevel_decode": BilevelDecode(True, budget=BudgetSettings(2)),
        },
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder, FrameReader() as reader:
        video = Video("video", Path(folder) / "video.mp4")
        write_video(video.path, scenes(), FPS)
        for name, kind in kinds.items():
            settings = VideoXL2Mini(frames=FrameSettings(max=options.frames), **kind)
            model = settings.build()
            ask(model, reader, settings, video, range(1))  # warm
            best = {"one": float("inf"), "all": float("inf")}
            for _ in range(options.rounds):
                for side, questions in (("one", range(1)), ("all", range(options.questions))):
                    started = time.perf_counter()
                    ask(model, reader, settings, video, questions)
                    best[side] = min(best[side], time.perf_counter() - started)
            one, every = best["one"], best["all"]
            anew = f"{options.questions * one:.2f}"
            rows.append(
                (
                    name,
                    f"{one:.2f}",
                    f"{every:.2f}",
                    f"{every / one:.2f}x",
                    anew,
                    f"{options.questions * one / every:.1f}x",
                )
            )
    print(f"{options.frames} frames, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    many = f"{options.questions} questions"
    print(table(("prefill", "1 question s", f"{many} s", "ratio", "again for each s", "gain"), rows))


if __name__ == "__main__":
    main()
