"""Cluster bootstrap: draw whole videos with replacement and compute every score again.

Questions about one video succeed and fail together, so it is videos that a benchmark has drawn, not questions. A
resample is a vector of multiplicities, one for each cluster; all scores are ratios of sums, so a resample of all of
them is one row of `weights [B, clusters] @ sums [clusters, cells]`. A micro average is one cell, a macro average
several, a slice the cells of its label: one mechanism for all of them, and the same resamples, so that differences
between scores (and between runs) are paired.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_BLOCK = 256  # resamples at a time: bounds the memory of the weights at 256 x clusters


@dataclass(frozen=True)
class Cells:
    """Per cluster and cell, the sum of the scores and their number; and which cells each score averages.

    `sums`, `counts` `[clusters, cells]`; `rows` `[scores, cells]` of 0 and 1. A score is the unweighted mean of the
    means of its cells; a cell that is empty (in a resample, say) is left out of it.
    """

    sums: Floats
    counts: Floats
    rows: Floats

    @classmethod
    def gather(
        cls,
        values: Floats,
        clusters: Sequence[int] | NDArray[np.int64],
        n_clusters: int,
        members: Sequence[Sequence[Sequence[int]]],
    ) -> Cells:
        """`values` `[n]`; `clusters` `[n]` numbered below `n_clusters`; `members`: for each score its cells, each a
        list of positions in `values`."""
        clusters = np.asarray(clusters, dtype=np.int64)
        cells = [np.asarray(cell, dtype=np.int64) for score in members for cell in score]
        sums = np.zeros((n_clusters, len(cells)))
        counts = np.zeros((n_clusters, len(cells)))
        for column, cell in enumerate(cells):
            sums[:, column] = np.bincount(clusters[cell], weights=values[cell], minlength=n_clusters)
            counts[:, column] = np.bincount(clusters[cell], minlength=n_clusters)
        owner = np.repeat(np.arange(len(members)), [len(score) for score in members])
        rows = (owner[None, :] == np.arange(len(members))[:, None]).astype(np.float64)
        return cls(sums, counts, rows)

    @classmethod
    def join(cls, parts: Sequence[Cells]) -> Cells:
        """The scores of all parts, in order, over the same clusters."""
        rows = np.zeros((sum(len(part.rows) for part in parts), sum(part.rows.shape[1] for part in parts)))
        row = column = 0
        for part in parts:
            height, width = part.rows.shape
            rows[row : row + height, column : column + width] = part.rows
            row, column = row + height, column + width
        return cls(np.hstack([part.sums for part in parts]), np.hstack([part.counts for part in parts]), rows)

    def scores(self, weights: Floats | None = None) -> Floats:
        """`[B, scores]` under `weights` `[B, clusters]`, `[1, scores]` without; nan where every cell is empty."""
        if weights is None:
            weights = np.ones((1, len(self.sums)))
        counts = weights @ self.counts
        filled = (counts > 0).astype(np.float64)
        means = np.divide(weights @ self.sums, counts, out=np.zeros_like(counts), where=counts > 0)
        used = filled @ self.rows.T
        return np.divide(means @ self.rows.T, used, out=np.full_like(used, np.nan), where=used > 0)

    def bootstrap(self, resamples: int = 2000, seed: int = 0) -> Floats:
        """`[resamples, scores]`."""
        blocks = [self.scores(weights) for weights in resample(len(self.sums), resamples, seed)]
        return np.concatenate(blocks) if blocks else np.empty((0, len(self.rows)))


def resample(clusters: int, resamples: int, seed: int = 0) -> Iterator[Floats]:
    """Multiplicities of `clusters` drawn with replacement, `[<=256, clusters]` a block.

    Drawn from the raw stream of PCG64, which NumPy keeps the same on all machines and in all versions (its
    distributions may change).
    """
    bits = np.random.PCG64(seed)
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        raw = bits.random_raw(size * clusters)
        drawn = ((raw >> np.uint64(32)) * np.uint64(clusters) >> np.uint64(32)).astype(np.int64)
        flat = drawn.reshape(size, clusters) + clusters * np.arange(size)[:, None]
        yield np.bincount(flat.ravel(), minlength=size * clusters).reshape(size, clusters).astype(np.float64)


def percentile_interval(replicates: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Lower and upper ends `[scores]` of the central `level` of each column; nan where a column has no value."""
    if not len(replicates):
        empty = np.full(replicates.shape[1], np.nan)
        return empty, empty
    tail = (1 - level) / 2
    if not np.isnan(replicates).any():
        low, high = np.quantile(replicates, [tail, 1 - tail], axis=0)
        return low, high
    ends = [
        np.quantile(present, [tail, 1 - tail]) if len(present := column[~np.isnan(column)]) else (np.nan, np.nan)
        for column in replicates.T
    ]
    low, high = np.array(ends).T
    return low, high
