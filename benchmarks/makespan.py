"""How long many workers take together, pulling videos longest first, against the fixed shares that lmms-eval deals out.

    PYTHONPATH=. python benchmarks/makespan.py                  # 8 workers, about a minute

Real workers on a real local Ray, through evalkit's own executor; each sleeps in proportion to the length of its video.
Lengths are shaped like LVBench's (103 videos of 30 minutes or more, 4,101 s on average; arXiv 2406.08035): log-normal,
cut below. lmms-eval gives rank r of n every n-th question from the r-th on (`create_iterator` in lmms_eval/utils.py);
here a share is every n-th *video*, which is kinder to it: no video is read by two ranks. The clock runs from the moment
when all workers have the frames of their first video to the last answer: eight of them starting on two cores would say
more about this machine. A third run is robbed of half its workers; Ray starts others in their
place.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import ray

from evalkit.evaluate import Labels
from evalkit.executors import ray as executor
from evalkit.executors.base import WorkerSetup
from evalkit.model import VideoCache
from evalkit.scoring.grade import Choice
from evalkit.task import Protocol, Split, Task
from evalkit.testing import Constant, _ConstantModel
from evalkit.types import Context, Decoding, Question, Record, Video, VideoQuestions
from evalkit.video.scenes import Scene, film
from evalkit.video.settings import VideoSettings
from evalkit.video.write import write_video

VIDEOS, MEAN_S, SHORTEST_S, QUESTIONS = 103, 4101.0, 1800.0, 3


def lengths(seed: int) -> list[float]:
    """Seconds of each video, in the order of the file."""
    drawn = np.random.default_rng(seed).lognormal(0, 0.5, VIDEOS)
    spread = drawn / drawn.mean() * MEAN_S
    for _ in range(50):  # cutting below moves the mean; moving it back cuts again
        spread = np.maximum(spread, SHORTEST_S)
        spread *= MEAN_S / spread.mean()
    return [float(s) for s in spread]


# In the workers


@dataclass
class Sleeper(Constant):
    """Sleeps `scale` seconds for a second of video. Notes in `diary_folder` who is there and what was begun."""

    frames: int = 1
    scale: float = 0.0
    diary_folder: str = ""
    crew: int = 1

    def build(self) -> _ConstantModel:
        return _Sleeping(self)

    def wait_for_all(self) -> None:
        folder = Path(self.diary_folder)
        (folder / f"worker-{os.getpid()}").touch()
        while not (folder / "go").exists():
            if len(list(folder.glob("worker-*"))) >= self.crew:
                (folder / "go").touch()
            time.sleep(0.02)


class _Sleeping(_ConstantModel):
    def prefill(self, context: Context) -> VideoCache:
        settings = self.settings
        assert isinstance(settings, Sleeper)
        with (Path(settings.diary_folder) / "prefills").open("a") as diary:
            diary.write(f"{context.video.id}\n")
        cache = super().prefill(context)
        settings.wait_for_all()
        time.sleep((context.video.duration_s or 0.0) * settings.scale)
        return cache


class Shares(executor._Queue):
    """Every n-th video for each of n workers, in the order of the file."""

    crew = 1

    def __init__(self, items: Sequence[VideoQuestions]) -> None:
        super().__init__(())
        self.shares = {n: list(items[n :: self.crew])[::-1] for n in range(self.crew)}

    def take(self, worker: int) -> VideoQuestions | None:
        return self.shares[worker].pop() if self.shares[worker] else None


@dataclass
class Lengths(Task):
    name = "lengths"
    benchmark = "Lengths"
    split: str = "all"
    splits = {"all": Split()}
    protocols = {"official": Protocol("benchmark", lambda item, question, plan: question.text, Choice("lmms_eval"))}

    def load(self, root: Path) -> Iterator[VideoQuestions]:
        raise NotImplementedError


# In this process


@dataclass
class Measured:
    makespan_s: float
    answers: Counter[str]
    prefills: Counter[str]


def run(
    items: Sequence[VideoQuestions], crew: int, scale: float, during: Callable[[Path], None] | None = None
) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        diary = Path(folder)
        model = Sleeper(scale=scale, diary_folder=folder, crew=crew)
        setup = WorkerSetup(Lengths(), model, VideoSettings(workers=1), Decoding(), Labels("benchmark", "sleeper"))
        if during:
            threading.Thread(target=during, args=(diary,), daemon=True).start()
        settings = executor.Ray(workers=crew, cpus_per_worker=0.01, gpus_per_worker=0.0)
        events = settings.run(setup, items)
        answers = Counter(e.question for e in events if isinstance(e, Record) and e.reply is not None)
        makespan = time.time() - (diary / "go").stat().st_mtime
        return Measured(makespan, answers, Counter((diary / "prefills").read_text().split()))


def kill_half(after_s: float, crew: int, seed: int) -> Callable[[Path], None]:
    def kill(diary: Path) -> None:
        while not (diary / "go").exists():
            time.sleep(0.05)
        time.sleep(after_s)
        there = sorted(int(path.name.split("-")[1]) for path in diary.glob("worker-*"))
        for pid in random.Random(seed).sample(there, crew // 2):
            os.kill(pid, signal.SIGKILL)

    return kill


def simulated(seconds: Sequence[float], crew: int) -> tuple[float, float]:
    """Makespan of fixed shares and of longest first, by arithmetic, in units of the lower bound."""
    bound = max(sum(seconds) / crew, *seconds)
    shares = max(sum(seconds[n::crew]) for n in range(crew))
    ends = [0.0] * crew
    for length in sorted(seconds, reverse=True):
        ends[ends.index(min(ends))] += length
    return shares / bound, max(ends) / bound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=12.0, help="what a run would take without any idleness")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    crew, seconds = given.workers, lengths(given.seed)
    scale = given.seconds * crew / sum(seconds)
    bound = max(sum(seconds) / crew, *seconds) * scale
    os.environ |= {"PYTHONPATH": str(Path.cwd()), "RAY_num_server_call_thread": "1"}
    executor._start(ray, None)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.mp4"
        write_video(path, film([Scene(0, 1, "red")], fps=4, size=(32, 32)), fps=4)
        items = [
            VideoQuestions(
                Video(f"v{i}", path, duration_s=s),
                tuple(Question(f"v{i}-{q}", "?", gold="A") for q in range(QUESTIONS)),
            )
            for i, s in enumerate(seconds)
        ]
        pulled = run(items, crew, scale)
        robbed = run(items, crew, scale, kill_half(given.seconds / 3, crew, given.seed))
        Shares.crew = crew
        executor._Queue = Shares  # type: ignore[misc]  # the other side of the comparison
        shared = run(items, crew, scale)
    ray.shutdown()
    print(f"{VIDEOS} videos, {min(seconds):.0f} to {max(seconds):.0f} s, mean {fmean(seconds):.0f} s; {crew} workers; ")
    print(f"lower bound {bound:.2f} s (total length / workers, or the longest video)\n")
    print("| run | makespan s | of the bound | idle share |\n|---|---:|---:|---:|")
    for name, outcome in (("pulled, longest first (evalkit)", pulled), ("fixed shares (lmms-eval)", shared)):
        idle = 1 - sum(seconds) * scale / crew / outcome.makespan_s
        print(f"| {name} | {outcome.makespan_s:.2f} | {outcome.makespan_s / bound:.3f} | {100 * idle:.1f}% |")
    print(f"| pulled, {crew // 2} workers killed | {robbed.makespan_s:.2f} | {robbed.makespan_s / bound:.3f} | |")
    print(f"\nfixed shares take {shared.makespan_s / pulled.makespan_s:.2f} times as long")
    expected = {q.id for item in items for q in item.questions}
    for name, outcome in (("undisturbed", pulled), (f"{crew // 2} killed", robbed), ("shares", shared)):
        lost, doubled = len(expected - set(outcome.answers)), sum(n - 1 for n in outcome.answers.values())
        again = sum(n - 1 for n in outcome.prefills.values())
        print(f"{name}: {len(outcome.answers)} answers, {lost} lost, {doubled} doubled, {again} videos begun again")
    shuffled, chance = list(seconds), random.Random(given.seed)
    many = []
    for _ in range(1000):
        chance.shuffle(shuffled)
        many.append(simulated(shuffled, crew))
    print(
        f"by arithmetic, over 1,000 orders of the file: fixed shares {fmean(s for s, _ in many):.2f} of the bound, "
        f"longest first {fmean(p for _, p in many):.3f}"
    )


if __name__ == "__main__":
    main()
