"""The mean of values that come in clusters, with its standard error and degrees of freedom.

Questions about one video tend to be right or wrong together, so the videos are the sample, not the questions. The
standard error is the jackknife over clusters: leave out one cluster at a time and measure the change of the mean. It
needs no formula for each kind of mean, and with few clusters of unequal size it is less optimistic than the usual
sandwich formula (MacKinnon, Nielsen & Webb 2023, "Cluster-robust inference: a guide to empirical practice", CV3).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

FEW_CLUSTERS = 15
"""From this number of clusters on, intervals and p-values were measured to hold their level (docs/statistics.md)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of `n` values in `clusters` clusters. `se`, its standard error, has the unit of the values; 0 if the mean
    stays the same whichever cluster is left out. `se` and the degrees of freedom `df` are nan for one cluster."""

    mean: float
    se: float
    df: float
    n: int
    clusters: int


def clustered_mean(values: ArrayLike, clusters: ArrayLike, labels: ArrayLike | None = None) -> Estimate:
    """The mean of `values` `[n]`, n > 0; with `labels` `[n]`, the unweighted mean of the means of the labels.

    `clusters` and `labels` are integers. A value that counts under two labels is given twice. A label that has no value
    once a cluster is left out does not count in that mean.

    `df` is Satterthwaite's for values of equal variance, less 1. For a plain mean it is Kish's effective number of
    clusters less 1: G - 1 if all G clusters are of one size, fewer if some are much larger.
    """
    values = np.asarray(values, dtype=np.float64)
    cluster = np.unique(np.asarray(clusters), return_inverse=True)[1]
    label = np.zeros(len(values), np.int64) if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1]
    shape = int(cluster.max()) + 1, int(label.max()) + 1
    place = cluster * shape[1] + label
    sums = np.bincount(place, weights=values, minlength=shape[0] * shape[1]).reshape(shape)
    counts = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)
    total, number = sums.sum(axis=0), counts.sum(axis=0)
    mean = float((total / number).mean())
    if shape[0] == 1:
        return Estimate(mean, math.nan, math.nan, len(values), 1)
    left = number - counts
    means = np.divide(total - sums, left, out=np.zeros(shape), where=left > 0)
    without = means.sum(axis=1) / (left > 0).sum(axis=1)
    se = math.sqrt((shape[0] - 1) / shape[0] * float(((without - mean) ** 2).sum()))
    variances = (counts / number**2).sum(axis=1)
    df = float(variances.sum() ** 2 / (variances**2).sum()) - 1
    return Estimate(mean, se if se > 1e-9 else 0.0, max(df, 1.0), len(values), shape[0])
