"""Standard errors of a mean, with and without regard to clusters (Miller, arXiv 2411.00640, eq. 4)."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike


def naive_se(values: ArrayLike) -> float:
    """sd / sqrt(n), as if all questions were independent. nan for fewer than two."""
    values = np.asarray(values, dtype=np.float64)
    return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def clustered_se(values: ArrayLike, clusters: ArrayLike) -> float:
    """The naive variance plus the covariances within clusters: `SE^2 = SE_naive^2 + 1/n^2 sum_c sum_{i != j}
    (s_i - m)(s_j - m)`. `clusters` are labels of any kind. nan for fewer than two values or clusters."""
    values = np.asarray(values, dtype=np.float64)
    _, numbers = np.unique(np.asarray(clusters), return_inverse=True)
    if len(values) < 2 or numbers.max() == 0:
        return math.nan
    residuals = values - values.mean()
    sums = np.bincount(numbers, weights=residuals)
    covariance = float((sums**2).sum() - (residuals**2).sum())
    return math.sqrt(max(naive_se(values) ** 2 + covariance / len(values) ** 2, 0.0))


def design_effect(values: ArrayLike, clusters: ArrayLike) -> float:
    """How many times larger the variance is than with independent questions; n / design_effect is the effective
    number of questions. nan where the values do not vary."""
    naive = naive_se(values)
    return (clustered_se(values, clusters) / naive) ** 2 if naive else math.nan


def normal_interval(mean: float, se: float, level: float = 0.95) -> tuple[float, float]:
    """Mean plus and minus the normal quantile times the standard error."""
    reach = NormalDist().inv_cdf((1 + level) / 2) * se
    return mean - reach, mean + reach


def detectable_difference(se: float, power: float = 0.8, level: float = 0.95) -> float:
    """The smallest true difference that a two-sided test at 1 - `level` finds with probability `power`, for the
    standard error of that difference."""
    normal = NormalDist()
    return (normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(power)) * se


def wilson_interval(rate: float, trials: int, level: float = 0.95) -> tuple[float, float]:
    """Of a rate among independent trials (Wilson 1927)."""
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = (rate + z2 / (2 * trials)) / (1 + z2 / trials)
    reach = math.sqrt(z2 * (rate * (1 - rate) + z2 / (4 * trials)) / trials) / (1 + z2 / trials)
    return middle - reach, middle + reach


def saturated_interval(clusters: int, right: bool, level: float = 0.95) -> tuple[float, float]:
    """Interval of a rate whose every value is 1 (`right`) or 0, where resampling cannot vary: the exact binomial one
    with each cluster as a single trial."""
    reach = ((1 - level) / 2) ** (1 / clusters)
    return (reach, 1.0) if right else (0.0, 1 - reach)
