"""Means of clustered values with their intervals and p-values; corrections for several tests; agreement of answers."""

from evalkit.stats.clustered import FEW_CLUSTERS, Estimate, clustered_mean
from evalkit.stats.intervals import detectable_difference, error_of, interval_at, share_interval, t_interval, t_test
from evalkit.stats.paired import Agreement, agreement, holm, holm_levels

__all__ = [
    "FEW_CLUSTERS",
    "Agreement",
    "Estimate",
    "agreement",
    "clustered_mean",
    "detectable_difference",
    "error_of",
    "holm",
    "holm_levels",
    "interval_at",
    "share_interval",
    "t_interval",
    "t_test",
]
