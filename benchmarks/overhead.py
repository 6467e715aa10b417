"""The time that the harness adds to a question: records flushed to the disk, meters, grading, trackers.

    PYTHONPATH=. python benchmarks/overhead.py [--videos 6] [--questions 20] [--seconds 0.1]

The same videos, questions and model (it sleeps `--seconds` a question and reads the frames of each video) in a loop
that keeps replies in a list, and in a run with `tracker=csv`. Both use the same frame reader, so that only the harness
differs. Both are repeated in turn, and the fastest counts, because other processes can only slow one down. The time
that a run needs once (reading the data, manifest, git, the tables at the end) is given separately.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from evalkit import CONFIGS, job
from evalkit.cli.compose import compose
from evalkit.runs import RunFolder
from evalkit.video.reader import FrameReader
from tests.helpers import CONF, toy_arguments
from tests.toy import write_toy


def planned(data: Path, results: Path, seconds: float) -> job.Plan:
    words = toy_arguments(
        data, results, "task.allow_missing=true", "min_coverage=0", f"model.seconds={seconds}", "video.workers=1"
    )
    return job.plan(compose(words, [CONFIGS, CONF]))


def bare(plan: job.Plan) -> float:
    """Seconds of the loop without the harness."""
    items = plan.task.read(plan.source.open(plan.task))
    model, request, replies = plan.model.build(), plan.model.frames_wanted(), []
    started = time.perf_counter()
    with FrameReader(plan.config.video) as reader:
        opened = reader.open_ahead((item.video, request) for item in items)
        for item, frames in zip(items, opened, strict=True):
            assert not isinstance(frames, Exception)
            prompts = [plan.task.prompt(item, question, frames.plan) for question in item.questions]
            answers = model.answer(plan.task.context(item, frames), prompts, plan.decoding)
            replies += answers.replies
            answers.close()
    return time.perf_counter() - started


class Clocked:
    """Seconds spent in a method, summed over its calls."""

    def __init__(self, owner: type[Any], name: str) -> None:
        self.seconds, self.calls = 0.0, 0
        method = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - started
                self.calls += 1

        setattr(owner, name, timed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.1)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    asked = given.videos * given.questions
    ask, append = Clocked(job, "_ask"), Clocked(RunFolder, "append")  # type: ignore[arg-type]  # a class too
    loops, runs, whole, memory = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        data = write_toy(Path(folder) / "data", given.videos, given.questions)
        bare(planned(data, Path(folder) / "warm", 0.0))
        for repeat in range(given.repeats):
            loops.append(bare(planned(data, Path(folder) / f"bare-{repeat}", given.seconds)))
            plan, before = (
                planned(data, Path(folder) / f"run-{repeat}", given.seconds),
                psutil.Process().memory_info().rss,
            )
            ask.seconds, started = 0.0, time.perf_counter()
            assert job.run(plan) == 0
            whole.append(time.perf_counter() - started)
            runs.append(ask.seconds)
            memory.append(psutil.Process().memory_info().rss - before)
    loop, run = min(loops), min(runs)
    added = (run - loop) / asked
    print(f"\n{asked} questions on {given.videos} videos, {1000 * given.seconds:.0f} ms each by the model's clock\n")
    print(f"bare loop                    {loop:8.3f} s")
    print(f"the same questions in a run  {run:8.3f} s")
    print(
        f"added                        {1000 * added:8.3f} ms a question, {100 * (run - loop) / run:.2f}% of the time"
    )
    print(f"  of that, to the disk       {1000 * append.seconds / append.calls:8.3f} ms a question")
    print(f"once a run                   {min(whole) - run:8.3f} s before the first and after the last question")
    print(f"memory                       {max(memory) / 2**20:8.1f} MB more than before, {asked} records kept")


if __name__ == "__main__":
    main()
