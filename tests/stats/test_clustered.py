"""Standard errors, intervals and p-values, each against the obvious way or another formula."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from evalkit.stats import (
    Estimate,
    clustered_mean,
    detectable_difference,
    share_interval,
    t_interval,
    t_test,
)

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 0.25]), st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=25
)


def mean_of_means(rows: list[tuple[float, int, int]]) -> float:
    labels: dict[int, list[float]] = {}
    for value, _, label in rows:
        labels.setdefault(label, []).append(value)
    return sum(sum(values) / len(values) for values in labels.values()) / len(labels)


@given(ROWS)
def test_the_standard_error_is_that_of_leaving_out_each_cluster(rows: list[tuple[float, int, int]]) -> None:
    found = clustered_mean(*zip(*rows, strict=True))
    clusters = sorted({cluster for _, cluster, _ in rows})
    assert found.mean == pytest.approx(mean_of_means(rows))
    assert (found.n, found.clusters) == (len(rows), len(clusters))
    if len(clusters) == 1:
        assert math.isnan(found.se) and math.isnan(found.df)
        return
    without = [mean_of_means([row for row in rows if row[1] != cluster]) for cluster in clusters]
    share = (len(clusters) - 1) / len(clusters)
    assert found.se == pytest.approx(math.sqrt(share * sum((m - found.mean) ** 2 for m in without)), abs=2e-9)
    assert 1 <= found.df <= max(1, len(rows) - 1)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=30))
def test_one_value_a_cluster_gives_the_plain_t_test(values: list[float]) -> None:
    found = clustered_mean(values, range(len(values)))
    assert found.df == pytest.approx(len(values) - 1)
    if np.std(values) > 1e-6:
        expected = ttest_1samp(values, 0)
        assert t_test(found) == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-12)
        assert t_interval(found) == pytest.approx(tuple(expected.confidence_interval()), abs=1e-9)


def sandwich(values: np.ndarray, clusters: np.ndarray) -> float:
    """The usual cluster-robust standard error of a mean, with the factor G / (G - 1)."""
    sums = np.array([(values - values.mean())[clusters == c].sum() for c in np.unique(clusters)])
    return math.sqrt(len(sums) / (len(sums) - 1) * (sums**2).sum()) / len(values)


def test_against_the_sandwich_formula() -> None:
    """Equal for clusters of one size; a little larger where sizes differ, by design."""
    rng = np.random.default_rng(0)
    even = np.repeat(np.arange(30), 5)
    values = (rng.random(150) < 0.3 + 0.4 * (even % 2)).astype(float)
    assert clustered_mean(values, even).se == pytest.approx(sandwich(values, even))
    assert clustered_mean(values, even).df == pytest.approx(29)
    uneven = np.repeat(np.arange(100), rng.integers(7, 24, 100))
    values = (rng.random(len(uneven)) < 0.3 + 0.4 * (uneven % 2)).astype(float)
    assert 1 <= clustered_mean(values, uneven).se / sandwich(values, uneven) < 1.03
    sizes = np.bincount(uneven)
    assert clustered_mean(values, uneven).df == pytest.approx(sizes.sum() ** 2 / (sizes**2).sum() - 1)


def test_a_macro_average_has_the_error_of_its_smallest_label() -> None:
    """Two labels of 200 and 4 clusters: the second decides, and leaves about 3 degrees of freedom."""
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [200, 4])
    values = np.where(labels == 1, [0.0, 1.0, 1.0, 0.0] * 51, rng.integers(0, 2, 204)).astype(float)
    found = clustered_mean(values, np.arange(204), labels)
    alone = clustered_mean(values[200:], np.arange(4))
    assert found.se == pytest.approx(alone.se / 2, rel=0.2)
    assert 2.5 < found.df < 4


@given(st.floats(-1, 1), st.floats(1e-6, 1), st.floats(1, 1000))
def test_the_interval_leaves_out_zero_exactly_where_p_is_below_five_percent(mean: float, se: float, df: float) -> None:
    estimate = Estimate(mean, se, df, 100, 20)
    low, high = t_interval(estimate)
    p = t_test(estimate)
    assert abs(p - 0.05) < 1e-9 or (p < 0.05) == (low > 0 or high < 0)


@given(st.integers(0, 15), st.integers(16, 300))
def test_share_interval_of_independent_answers_is_near_wilsons(right: int, clusters: int) -> None:
    values = [1.0] * right + [0.0] * (clusters - right)
    low, high = share_interval(clustered_mean(values, range(clusters)))
    assert 0 <= low <= right / clusters + 1e-12 and right / clusters <= high <= 1
    wilson = binomtest(right, clusters).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((wilson.low, wilson.high), abs=0.04)


def test_share_interval_ends_are_the_shares_that_the_t_test_just_keeps() -> None:
    estimate = Estimate(0.9, 0.03, 19, 200, 20)
    trials = 0.9 * 0.1 / 0.03**2
    for end in share_interval(estimate):
        assert abs(0.9 - end) == pytest.approx(2.0930 * math.sqrt(end * (1 - end) / trials), rel=1e-4)


@pytest.mark.parametrize("mean", [0.0, 0.25, 1.0])
def test_without_variation_each_cluster_is_one_trial(mean: float) -> None:
    few, many = (share_interval(clustered_mean(np.full(n, mean), np.arange(n) // 4)) for n in (24, 400))
    assert few[0] <= many[0] <= mean <= many[1] <= few[1] and few[1] - few[0] > 0.35
    assert few[0] >= 0 and few[1] <= 1


def test_a_change_of_nothing_is_as_uncertain_as_one_of_one_question() -> None:
    nothing, one = np.zeros(100), np.eye(1, 100)[0]
    clusters = np.arange(100) // 5
    still, changed = clustered_mean(nothing, clusters), clustered_mean(one, clusters)
    assert t_test(still) == 1 and still.se == 0
    (low, high), (first, last) = t_interval(still), t_interval(changed)
    assert (high - low) == pytest.approx(last - first) and -low == high
    assert t_test(clustered_mean([0.25, 0.25], [0, 1])) > 0.05, "two videos that change alike are no proof"


def test_detectable_difference_is_found_four_times_in_five() -> None:
    rng = np.random.default_rng(7)
    draws = rng.normal(0, 1, (2000, 20))
    size = detectable_difference(clustered_mean(rng.permutation(draws.ravel())[:20] * 0 + [1, -1] * 10, range(20)))
    size *= 1 / math.sqrt(20 / 19)  # of a sample with variance 20/19 to one of variance 1
    found = np.mean([t_test(clustered_mean(row + size, range(20))) <= 0.05 for row in draws])
    assert found == pytest.approx(0.8, abs=0.03)


def test_large_samples_use_the_normal_quantile() -> None:
    estimate = Estimate(0.0, 0.86, 1e6, 1_000_000, 1_000_000)
    assert detectable_difference(estimate) == pytest.approx(2.41, abs=0.005)
    assert all(math.isnan(end) for end in t_interval(clustered_mean([0.0, 1.0], [0, 0])))


def test_sizes_of_the_ends_do_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(8)
    values, clusters = rng.random(300), rng.integers(0, 20, 300)
    order = rng.permutation(300)
    for one, other in pairwise([clustered_mean(values, clusters), clustered_mean(values[order], clusters[order])]):
        assert (one.mean, one.se, one.df) == pytest.approx((other.mean, other.se, other.df))
