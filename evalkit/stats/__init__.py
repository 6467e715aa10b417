"""Intervals and tests for benchmark scores: clustered by video, exact where they can be, seeded where they draw."""

from evalkit.stats.bootstrap import Cells, percentile_interval, resample

__all__ = ["Cells", "percentile_interval", "resample"]
