"""What a slow judge adds to a run: replies are graded beside the model, several at a time.

    PYTHONPATH=. python benchmarks/judge_beside.py [--questions 60] [--seconds 1.0] [--judge 2.0]

The same videos, questions and model (which sleeps `--seconds` for each question), once with a judge behind a real HTTP
server that takes `--judge` seconds for each answer, once with a grader that takes no time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

from tests.helpers import run_here, toy_arguments
from tests.test_recorder import Judge
from tests.toy import write_toy


def timed(words: list[str]) -> float:
    started = time.perf_counter()
    assert run_here(words) == 0
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--judge", type=float, default=2.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Judge() as judge:
        os.environ["EVALKIT_CACHE"] = f"{folder}/cache"
        threading.Thread(target=judge.serve_forever, daemon=True).start()
        judge.delay_s = options.judge
        data = write_toy(Path(folder) / "data", videos=4, questions=options.questions // 4)
        more = ["task.allow_missing=true", "min_coverage=0", f"model.seconds={options.seconds}"]
        plain = timed(toy_arguments(data, Path(folder) / "plain", *more))
        named = [f"task.judge.base_url={judge.url}", "task.judge.model=j"]
        words = toy_arguments(data, Path(folder) / "judged", *more, *named)
        judged = timed([word.replace("task=toy", "task=judged_toy") for word in words])
        judge.shutdown()
        print(f"{judge.asked} answers, {options.seconds:g} s each; the judge takes {options.judge:g} s each")
        print(f"  without a judge  {plain:6.1f} s")
        print(f"  with the judge   {judged:6.1f} s, {100 * (judged / plain - 1):+.1f} %")
        print(f"  one by one it would be {plain + judge.asked * options.judge:.0f} s")


if __name__ == "__main__":
    main()
