"""Intervals and tests for benchmark scores: clustered by video, exact where they can be, seeded where they draw."""

from evalkit.stats.bootstrap import Cells, percentile_interval, resample
from evalkit.stats.paired import Agreement, McNemar, agreement, holm, mcnemar
from evalkit.stats.standard_error import (
    clustered_se,
    design_effect,
    detectable_difference,
    naive_se,
    normal_interval,
    saturated_interval,
    wilson_interval,
)

__all__ = [
    "Agreement",
    "Cells",
    "McNemar",
    "agreement",
    "clustered_se",
    "design_effect",
    "detectable_difference",
    "holm",
    "mcnemar",
    "naive_se",
    "normal_interval",
    "percentile_interval",
    "resample",
    "saturated_interval",
    "wilson_interval",
]
