"""How often does a comparison cry wolf? 10,000 pairs of runs that are equally good, on clustered questions.

    python benchmarks/null_simulation.py [--pairs 10000] [--json FILE]

Each simulated benchmark has its videos and their question counts; each pair of runs answers it with the same expected
accuracy. The runs' luck differs by video: on some videos run B is better, on others worse, with no difference on
average (`spread` is the standard deviation of that, on the logit scale). 5 % of such pairs should be called different.
Compared are the paired cluster bootstrap (evalkit's interval), exact McNemar, both together (evalkit's verdict), and
the iid paired t test that other harnesses use.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from statistics import NormalDist

import numpy as np

from evalkit.stats import mcnemar, resample

# name: videos, questions of a video (low, high), spread between the runs over videos
DESIGNS = {
    "LVBench-like": (103, (7, 24), 0.6),
    "LVBench-like, no video effect": (103, (7, 24), 0.0),
    "Video-MME-like": (900, (3, 4), 0.6),
    "50 videos": (50, (10, 21), 0.6),
    "20 videos": (20, (10, 21), 0.6),
}
Z = NormalDist().inv_cdf(0.975)


def simulate(
    videos: int, per_video: tuple[int, int], spread: float, pairs: int, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Per pair and video: the questions that run B gained and lost `[pairs, videos]`, and questions a video."""
    sizes = rng.integers(*per_video, videos)
    video = np.repeat(np.arange(videos), sizes)
    gained = np.empty((pairs, videos))
    lost = np.empty((pairs, videos))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    for i in range(pairs):
        # Question difficulty is shared by both runs; the video effect of each run is its own, with the same law.
        ability = rng.normal(0, 1.5, len(video))
        effect = rng.normal(0, spread / math.sqrt(2), (2, videos))
        right = [rng.random(len(video)) < 1 / (1 + np.exp(-(ability + e[video]))) for e in effect]
        gained[i] = np.add.reduceat((right[1] & ~right[0]).astype(float), starts)
        lost[i] = np.add.reduceat((right[0] & ~right[1]).astype(float), starts)
    return gained, lost, sizes.astype(float)


def false_alarms(gained: np.ndarray, lost: np.ndarray, sizes: np.ndarray, resamples: int) -> dict[str, float]:
    """Share of pairs called different by each method."""
    change = gained - lost
    weights = np.concatenate(list(resample(len(sizes), resamples, seed=0)))
    boot = np.empty(len(change), dtype=bool)
    for start in range(0, len(change), 500):
        replicates = change[start : start + 500] @ weights.T / (weights @ sizes)
        low, high = np.quantile(replicates, [0.025, 0.975], axis=1)
        boot[start : start + 500] = (low > 0) | (high < 0)
    up, down = gained.sum(axis=1), lost.sum(axis=1)
    exact = np.array([mcnemar(int(g), int(k)).exact <= 0.05 for g, k in zip(up, down, strict=True)])
    n = sizes.sum()
    mean = (up - down) / n
    sd = np.sqrt(((up + down) / n - mean**2) * n / (n - 1))
    t_test = np.abs(mean) > Z * sd / math.sqrt(n)
    return {
        "paired cluster bootstrap": boot.mean(),
        "exact McNemar": exact.mean(),
        "both (verdict)": (boot & exact).mean(),
        "iid paired t test": t_test.mean(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=10_000)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {}
    for name, (videos, per_video, spread) in DESIGNS.items():
        start = time.perf_counter()
        data = simulate(videos, per_video, spread, options.pairs, np.random.default_rng(options.seed))
        results[name] = {k: round(100 * float(v), 2) for k, v in false_alarms(*data, options.resamples).items()}
        shown = "  ".join(f"{method} {rate:5.2f} %" for method, rate in results[name].items())
        print(f"{name:32s} {shown}  ({time.perf_counter() - start:.0f} s)", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"pairs": options.pairs, "false_alarm_percent": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
