"""The time that several workers need for a benchmark, with a queue of videos (longest first) and with fixed shares.

    PYTHONPATH=. python benchmarks/makespan.py                  # 8 workers, about a minute

Workers run on a local Ray through evalkit's executor; each sleeps in proportion to the length of its video. Lengths
are distributed like LVBench's (103 videos of 30 minutes or more, mean 4,101 s; arXiv 2406.08035): marks-normal with a
minimum. lmms-eval gives rank r of n every n-th question from the r-th on (`create_iterator` in lmms_eval/utils.py);
here a share is every n-th *video*, which favours it, as no video is read by two ranks. Time is measured from the moment
when all workers have the frames of their first video to the last answer, because the start of eight workers depends on
the number of cores. In a third run half of the workers are killed; Ray restarts them.
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
    for _ in range(50):  # the minimum changes the mean, and correcting the mean changes the minimum
        spread = np.maximum(spread, SHORTEST_S)
        spread *= MEAN_S / spread.mean()
    return [float(s) for s in spread]


# Run in the workers


@dataclass
class Sleeper(Constant):
    """Sleeps `scale` seconds for each second of video. Its workers write to `marks_folder`: a file `worker-<pid>` each,
    `go` once all have started, and in `prefills` the id of each video that was begun."""

    frames: int = 1
    scale: float = 0.0
    marks_folder: str = ""
    workers: int = 1

    def build(self) -> _ConstantModel:
        return _Sleeping(self)

    def wait_for_all(self) -> None:
        folder = Path(self.marks_folder)
        (folder / f"worker-{os.getpid()}").touch()
        while not (folder / "go").exists():
            if len(list(folder.glob("worker-*"))) >= self.workers:
                (folder / "go").touch()
            time.sleep(0.02)


class _Sleeping(_ConstantModel):
    def prefill(self, context: Context) -> VideoCache:
        settings = self.settings
        assert isinstance(settings, Sleeper)
        with (Path(settings.marks_folder) / "prefills").open("a") as file:
            file.write(f"{context.video.id}\n")
        cache = super().prefill(context)
        settings.wait_for_all()
        time.sleep((context.video.duration_s or 0.0) * settings.scale)
        return cache


class Shares(executor._Queue):
    """A queue that gives every n-th video to each of n workers, in the order of the file."""

    workers = 1

    def __init__(self, items: Sequence[VideoQuestions]) -> None:
        super().__init__(())
        self.shares = {n: list(items[n :: self.workers])[::-1] for n in range(self.workers)}

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


# Run in this process


@dataclass
class Measured:
    makespan_s: float
    answers: Counter[str]
    prefills: Counter[str]


def run(
    items: Sequence[VideoQuestions], workers: int, scale: float, during: Callable[[Path], None] | None = None
) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        marks = Path(folder)
        model = Sleeper(scale=scale, marks_folder=folder, workers=workers)
        setup = WorkerSetup(Lengths(), model, VideoSettings(workers=1), Decoding(), Labels("benchmark", "sleeper"))
        if during:
            threading.Thread(target=during, args=(marks,), daemon=True).start()
        settings = executor.Ray(workers=workers, cpus_per_worker=0.01, gpus_per_worker=0.0)
        events = settings.run(setup, items)
        answers = Counter(e.question for e in events if isinstance(e, Record) and e.reply is not None)
        makespan = time.time() - (marks / "go").stat().st_mtime
        return Measured(makespan, answers, Counter((marks / "prefills").read_text().split()))


def kill_half(after_s: float, workers: int, seed: int) -> Callable[[Path], None]:
    def kill(marks: Path) -> None:
        while not (marks / "go").exists():
            time.sleep(0.05)
        time.sleep(after_s)
        pids = sorted(int(path.name.split("-")[1]) for path in marks.glob("worker-*"))
        for pid in random.Random(seed).sample(pids, workers // 2):
            os.kill(pid, signal.SIGKILL)

    return kill


def simulated(seconds: Sequence[float], workers: int) -> tuple[float, float]:
    """Computed makespans of fixed shares and of longest first, as multiples of the lower bound."""
    bound = max(sum(seconds) / workers, *seconds)
    shares = max(sum(seconds[n::workers]) for n in range(workers))
    ends = [0.0] * workers
    for length in sorted(seconds, reverse=True):
        ends[ends.index(min(ends))] += length
    return shares / bound, max(ends) / bound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=12.0, help="time of a run in which no worker waits")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    workers, seconds = given.workers, lengths(given.seed)
    scale = given.seconds * workers / sum(seconds)
    bound = max(sum(seconds) / workers, *seconds) * scale
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
        pulled = run(items, workers, scale)
        half_killed = run(items, workers, scale, kill_half(given.seconds / 3, workers, given.seed))
        Shares.workers = workers
        executor._Queue = Shares  # type: ignore[misc]  # the other side of the comparison
        shared = run(items, workers, scale)
    ray.shutdown()
    print(
        f"{VIDEOS} videos, {min(seconds):.0f} to {max(seconds):.0f} s, mean {fmean(seconds):.0f} s; {workers} workers; "
    )
    print(f"lower bound {bound:.2f} s (total length / workers, or the longest video)\n")
    print("| run | makespan s | of the bound | idle share |\n|---|---:|---:|---:|")
    for name, outcome in (("pulled, longest first (evalkit)", pulled), ("fixed shares (lmms-eval)", shared)):
        idle = 1 - sum(seconds) * scale / workers / outcome.makespan_s
        print(f"| {name} | {outcome.makespan_s:.2f} | {outcome.makespan_s / bound:.3f} | {100 * idle:.1f}% |")
    killed_s = half_killed.makespan_s
    print(f"| pulled, {workers // 2} workers killed | {killed_s:.2f} | {killed_s / bound:.3f} | |")
    print(f"\nfixed shares take {shared.makespan_s / pulled.makespan_s:.2f} times as long")
    expected = {q.id for item in items for q in item.questions}
    for name, outcome in (("undisturbed", pulled), (f"{workers // 2} killed", half_killed), ("shares", shared)):
        lost, doubled = len(expected - set(outcome.answers)), sum(n - 1 for n in outcome.answers.values())
        again = sum(n - 1 for n in outcome.prefills.values())
        print(f"{name}: {len(outcome.answers)} answers, {lost} lost, {doubled} doubled, {again} videos begun again")
    shuffled, generator = list(seconds), random.Random(given.seed)
    many = []
    for _ in range(1000):
        generator.shuffle(shuffled)
        many.append(simulated(shuffled, workers))
    print(
        f"computed for 1,000 orders of the file: fixed shares {fmean(s for s, _ in many):.2f} of the bound, "
        f"longest first {fmean(p for _, p in many):.3f}"
    )


if __name__ == "__main__":
    main()
