"""Intervals and the two-sided test of one clustered mean, all from Student's t with the degrees of freedom of the mean.

`t_interval` and `t_test` belong together: the interval leaves out 0 exactly where p < 1 - level. Both give nan for a
single cluster. scipy is imported at the first call, since it takes a fifth of a second.
"""

from __future__ import annotations

import math

from evalkit.stats.clustered import Estimate


def interval_at(mean: float, se: float, df: float, alpha: float) -> tuple[float, float]:
    """Of probability 1 - alpha, from a mean with its standard error and degrees of freedom."""
    reach = _quantile(1 - alpha / 2, df) * se
    return mean - reach, mean + reach


def t_interval(estimate: Estimate, level: float = 0.95) -> tuple[float, float]:
    """The mean, plus and minus the t quantile times the standard error."""
    return interval_at(estimate.mean, error_of(estimate), estimate.df, 1 - level)


def t_test(estimate: Estimate) -> float:
    """p of the hypothesis that the true mean is 0."""
    from scipy.special import stdtr

    return min(1.0, 2 * float(stdtr(estimate.df, -abs(estimate.mean) / error_of(estimate))))


def share_interval(estimate: Estimate, level: float = 0.95) -> tuple[float, float]:
    """For the mean of values from 0 to 1: Wilson's interval (1927), which stays within 0 and 1.

    The number of trials is the number of independent values with the same standard error (Korn & Graubard 1998), and
    the quantile is Student's. Without any variation between clusters, each cluster is one trial: that they are all
    alike does not make the mean certain.
    """
    p, t2 = min(max(estimate.mean, 0.0), 1.0), _quantile((1 + level) / 2, estimate.df) ** 2
    trials = p * (1 - p) / estimate.se**2 if estimate.se else estimate.clusters
    middle = (p + t2 / (2 * trials)) / (1 + t2 / trials)
    reach = math.sqrt(t2 * (p * (1 - p) + t2 / (4 * trials)) / trials) / (1 + t2 / trials)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def detectable_difference(estimate: Estimate, power: float = 0.8, level: float = 0.95) -> float:
    """The true mean that `t_test` tells from 0 with probability `power`, given this standard error."""
    return (_quantile((1 + level) / 2, estimate.df) + _quantile(power, estimate.df)) * error_of(estimate)


def error_of(estimate: Estimate) -> float:
    """The standard error; without any variation, that of one value that differs from the others by 1."""
    return estimate.se if estimate.se != 0 else 1 / estimate.n


def _quantile(probability: float, df: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))
