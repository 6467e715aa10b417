"""How often compare finds a difference between equal runs, and how often a 95 % interval contains the truth.

    python benchmarks/null_simulation.py [--studies 2000] [--json FILE]

Simulated benchmarks: each question has a difficulty (sd 1.5 on the logit scale), and each video has an effect on each
run, independent between runs. Its sd is 0.42 where equal runs are compared, so that the effect on their difference has
an sd of 0.6, and 0.6 where coverage is measured. All rows are repeated with twice the effect.

- pair: two runs; the share of studies with p <= 0.05. For comparison, exact McNemar and the t test that treats
  questions as independent.
- 5 runs: the share of studies with any of the 10 pairs at p <= 0.05 after Holm's correction.
- 18 slices: the same over 6 groups of videos and 12 kinds of questions of one pair.
- coverage: the share of intervals that contain the true score, and the true difference to a better run.

The statistics are the functions that `compare` and the scores of a run use. A rate from 2,000 studies has a standard
error of 0.5.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import binom

from evalkit.stats import clustered_mean, holm, share_interval, t_interval, t_test

Array = NDArray[np.float64]

QUESTION_SD = 1.5
VIDEO_SD = 0.6
# name: videos, questions of a video (from, below)
DESIGNS = {"LVBench-like": (103, (7, 24)), "Video-MME-like": (900, (3, 4)), "20 videos": (20, (7, 24))}
METHODS = ("evalkit", "McNemar", "iid t")


def answers(
    rng: np.random.Generator, video: NDArray[np.int64], logits: Sequence[float], effect: float
) -> Iterator[Array]:
    """0 or 1 for each question, run after run. `video` `[questions]`; `logits`: mean ability of each run; `effect`:
    standard deviation of the video effect, on the logit scale."""
    difficulty = rng.normal(0, QUESTION_SD, len(video))
    for logit in logits:
        videos = rng.normal(0, effect, video.max() + 1)
        yield (rng.random(len(video)) < expit(logit + difficulty + videos[video])).astype(float)


def questions(rng: np.random.Generator, videos: int, sizes: tuple[int, int]) -> NDArray[np.int64]:
    """The number of the video of each question."""
    return np.repeat(np.arange(videos), rng.integers(*sizes, videos))


def p_values(change: Array, video: NDArray[np.int64]) -> tuple[float, float, float]:
    """The p-value of each of METHODS for the changes of the questions from one run to another."""
    gained, lost = int((change > 0).sum()), int((change < 0).sum())
    mcnemar = min(1.0, 2 * float(binom.cdf(min(gained, lost), gained + lost, 0.5)))
    return t_test(clustered_mean(change, video)), mcnemar, t_test(clustered_mean(change, np.arange(len(change))))


def family(rng: np.random.Generator, kind: str, effect: float) -> list[tuple[float, float, float]]:
    """The p-values of one study of LVBench's size: all pairs of five runs, or 18 slices of one pair."""
    video = questions(rng, *DESIGNS["LVBench-like"])
    if kind == "5 runs":
        runs = list(answers(rng, video, [0.0] * 5, effect))
        return [p_values(b - a, video) for a, b in combinations(runs, 2)]
    a, b = answers(rng, video, [0.0, 0.0], effect)
    genre, topic = video % 6, rng.choice(12, len(video), p=np.arange(1, 13) / 78)
    slices = [label == number for label, labels in ((genre, 6), (topic, 12)) for number in range(labels)]
    return [p_values((b - a)[part], video[part]) for part in slices]


def false_alarms(rng: np.random.Generator, kind: str, effect: float, studies: int) -> dict[str, float]:
    """Percent of studies in which each of METHODS finds any difference."""
    found = np.zeros((studies, len(METHODS)))
    for i in range(studies):
        if kind in DESIGNS:
            video = questions(rng, *DESIGNS[kind])
            a, b = answers(rng, video, [0.0, 0.0], effect)
            tests = [p_values(b - a, video)]
        else:
            tests = family(rng, kind, effect)
        adjusted = [holm(p) for p in zip(*tests, strict=True)]
        found[i] = [min(p for p in method if p is not None) <= 0.05 for method in adjusted]
    return {name: round(float(100 * rate), 2) for name, rate in zip(METHODS, found.mean(axis=0), strict=True)}


def mean_score(logit: float, effect: float) -> float:
    """The expected score of a run, over all videos and questions."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return float((weights * expit(logit + math.hypot(QUESTION_SD, effect) * nodes)).sum() / weights.sum())


def coverage(
    rng: np.random.Generator, videos: int, sizes: tuple[int, int], score: float, effect: float, studies: int
) -> tuple[float, float]:
    """Percent of intervals that contain the true score, and the true difference to a run that is 0.3 logits better."""
    logit = brentq(lambda x: mean_score(x, effect) - score, -20, 20)
    difference = mean_score(logit + 0.3, effect) - score
    hits = np.zeros(2)
    for _ in range(studies):
        video = questions(rng, videos, sizes)
        a, b = answers(rng, video, [logit, logit + 0.3], effect)
        for i, (low, high), truth in (
            (0, share_interval(clustered_mean(a, video)), score),
            (1, t_interval(clustered_mean(b - a, video)), difference),
        ):
            hits[i] += low <= truth <= high
    return round(100 * hits[0] / studies, 1), round(100 * hits[1] / studies, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rng, start = np.random.default_rng(options.seed), time.perf_counter()
    alarms: dict[str, dict[str, float]] = {}
    print("percent of studies of equal runs in which a difference is found")
    for kind in (*DESIGNS, "5 runs", "18 slices"):
        for times in (1, 2):
            rates = false_alarms(rng, kind, times * VIDEO_SD / math.sqrt(2), options.studies)
            alarms[f"{kind}, video effect {times}x"] = rates
            shown = "  ".join(f"{method} {rate:5.2f}" for method, rate in rates.items())
            print(f"{kind + f', video effect {times}x':34s} {shown}", flush=True)
    covered: dict[str, tuple[float, float]] = {}
    scores = (0.5, 0.75, 0.92, 0.98)
    print("percent of 95 % intervals that contain the true score / the true difference, at scores", *scores)
    for sizes, name in (((7, 24), "7 to 23 questions a video"), ((3, 4), "3 questions a video")):
        for times in (1, 2):
            for videos in (15, 20, 30, 100):
                row = f"{name}, video effect {times}x, {videos} videos"
                for score in scores:
                    covered[f"{row}, score {score}"] = coverage(
                        rng, videos, sizes, score, times * VIDEO_SD, options.studies
                    )
                shown = "  ".join("{:5.1f} / {:5.1f}".format(*covered[f"{row}, score {score}"]) for score in scores)
                print(f"{row:58s} {shown}", flush=True)
    print(f"{time.perf_counter() - start:.0f} s")
    if options.json:
        text = json.dumps({"studies": options.studies, "false_alarms": alarms, "coverage": covered}, indent=1)
        options.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
