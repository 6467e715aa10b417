from __future__ import annotations

import time

import numpy as np
import pytest

from evalkit.stats import Cells, percentile_interval, resample


def example(n: int = 400, clusters: int = 23, seed: int = 1) -> tuple[np.ndarray, np.ndarray, list[list[list[int]]]]:
    """Values, clusters, and four scores: micro, macro over three unequal labels, one slice, a slice of few clusters."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, clusters, n)
    values = (rng.random(n) < 0.3 + 0.4 * (cluster % 3 == 0)).astype(float)
    label = rng.choice(3, n, p=[0.7, 0.2, 0.1])
    everything = list(range(n))
    labels = [np.flatnonzero(label == k).tolist() for k in range(3)]
    return values, cluster, [[everything], labels, [labels[1]], [np.flatnonzero(cluster == 0).tolist()]]


def slow_scores(values: np.ndarray, cluster: np.ndarray, members: list, drawn: np.ndarray) -> list[float]:
    """The obvious way: repeat each question as often as its cluster was drawn."""
    scores = []
    for cells in members:
        means = []
        for cell in cells:
            repeated = [values[i] for i in cell for _ in range(int(drawn[cluster[i]]))]
            if repeated:
                means.append(sum(repeated) / len(repeated))
        scores.append(sum(means) / len(means) if means else float("nan"))
    return scores


def test_matrix_form_equals_repeating_the_questions() -> None:
    values, cluster, members = example()
    cells = Cells.gather(values, cluster, 23, members)
    drawn = np.concatenate(list(resample(23, 300, seed=4)))
    expected = [slow_scores(values, cluster, members, row) for row in drawn]
    np.testing.assert_allclose(cells.bootstrap(300, seed=4), expected)
    np.testing.assert_allclose(cells.scores()[0], slow_scores(values, cluster, members, np.ones(23)))
    assert np.isnan(expected).any(), "the example should have resamples without the small slice"


def test_joined_cells_are_resampled_together() -> None:
    values, cluster, members = example()
    whole = Cells.gather(values, cluster, 23, members)
    parts = Cells.join([Cells.gather(values, cluster, 23, [score]) for score in members])
    np.testing.assert_array_equal(whole.bootstrap(100), parts.bootstrap(100))


def test_resamples_draw_every_cluster_alike() -> None:
    weights = np.concatenate(list(resample(7, 3000, seed=2)))
    assert weights.shape == (3000, 7)
    assert (weights.sum(axis=1) == 7).all()
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=4 * np.sqrt(6 / 7 / 3000))
    np.testing.assert_allclose(weights.var(axis=0), 6 / 7, rtol=0.12)


def test_resamples_are_the_same_everywhere() -> None:
    """A fixed stream: these numbers must not change with NumPy, platform or block size."""
    (weights,) = resample(5, 4, seed=0)
    assert weights.astype(int).tolist() == [[2, 1, 0, 1, 1], [0, 0, 1, 2, 2], [2, 0, 0, 1, 2], [1, 1, 2, 0, 1]]
    many = np.concatenate(list(resample(5, 600, seed=0)))
    np.testing.assert_array_equal(many[:4], weights)


def test_interval_covers_the_truth_with_clusters() -> None:
    """60 clusters of 10 with strong within-cluster correlation: coverage near 95 %, where the iid interval has 60 %."""
    rng = np.random.default_rng(0)
    covered = naive = 0
    cluster = np.repeat(np.arange(60), 10)
    for trial in range(300):
        rate = rng.beta(1, 1, 60)
        values = (rng.random(600) < rate[cluster]).astype(float)
        cells = Cells.gather(values, cluster, 60, [[list(range(600))]])
        low, high = percentile_interval(cells.bootstrap(500, seed=trial))
        covered += low[0] <= 0.5 <= high[0]
        naive += abs(values.mean() - 0.5) <= 1.96 * values.std() / np.sqrt(600)
    assert 0.91 <= covered / 300 <= 0.985
    assert naive / 300 < 0.8


def test_percentiles_skip_resamples_without_a_value() -> None:
    column = np.concatenate([np.full(50, np.nan), np.arange(101.0)])
    replicates = np.stack([column, np.full(151, np.nan)], axis=1)
    low, high = percentile_interval(replicates)
    assert (low[0], high[0]) == pytest.approx((2.5, 97.5))
    assert np.isnan(low[1]) and np.isnan(high[1])
    assert np.isnan(percentile_interval(np.empty((0, 2)))[0]).all()


def test_two_thousand_resamples_of_twelve_thousand_answers() -> None:
    rng = np.random.default_rng(3)
    n, clusters = 12_000, 1000
    cells = Cells.gather(
        rng.integers(0, 2, n).astype(float),
        rng.integers(0, clusters, n),
        clusters,
        [[list(range(n))], *([rng.choice(n, 400).tolist()] for _ in range(50))],
    )
    start = time.process_time()
    cells.bootstrap(2000)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("clusters", [1, 2])
def test_few_clusters(clusters: int) -> None:
    cells = Cells.gather(np.array([0.0, 1.0]), np.arange(2) % clusters, clusters, [[[0, 1]]])
    assert set(np.unique(cells.bootstrap(50))) == ({0.5} if clusters == 1 else {0, 0.5, 1})
