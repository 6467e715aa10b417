"""Standard errors and paired tests, each against the obvious way."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats import (
    agreement,
    clustered_se,
    design_effect,
    detectable_difference,
    holm,
    mcnemar,
    naive_se,
    normal_interval,
    saturated_interval,
    wilson_interval,
)


def slow_clustered_se(values: list[float], clusters: list[int]) -> float:
    n, mean = len(values), sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (n - 1) / n
    for i, j in itertools.permutations(range(n), 2):
        if clusters[i] == clusters[j]:
            variance += (values[i] - mean) * (values[j] - mean) / n**2
    return math.sqrt(max(variance, 0))


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, 0.25]), st.integers(0, 4)), min_size=2, max_size=25))
def test_clustered_se_is_the_double_sum(rows: list[tuple[float, int]]) -> None:
    values, clusters = [v for v, _ in rows], [c for _, c in rows]
    if len(set(clusters)) == 1:
        assert math.isnan(clustered_se(values, clusters))
    else:
        assert clustered_se(values, clusters) == pytest.approx(slow_clustered_se(values, clusters), abs=1e-9)


def test_clusters_of_one_give_the_naive_error() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert clustered_se(values, list("abcde")) == pytest.approx(naive_se(values))
    assert design_effect(values, list("abcde")) == pytest.approx(1)
    assert naive_se(values) == pytest.approx(np.std(values, ddof=1) / math.sqrt(5))
    assert math.isnan(naive_se([1.0])) and math.isnan(design_effect([1.0, 1.0], [0, 1]))


def test_copies_of_each_question_double_the_variance() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 0.0] * 20
    clusters = list(range(len(values)))
    assert design_effect(values * 2, clusters * 2) == pytest.approx(2, rel=0.02)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (0, 6), (5, 5), (24, 40), (98, 83), (700, 650)])
def test_mcnemar_by_enumeration(gained: int, lost: int) -> None:
    n, k = gained + lost, min(gained, lost)
    probability = [
        math.exp(math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2))
        for i in range(n + 1)
    ]
    as_extreme = sum(p for i, p in enumerate(probability) if min(i, n - i) <= k)
    exact, mid_p = mcnemar(gained, lost)
    assert exact == pytest.approx(min(1, as_extreme), rel=1e-9)
    at = sum(p for i, p in enumerate(probability) if min(i, n - i) == k)
    assert mid_p == pytest.approx(1 if gained == lost else as_extreme - at / 2, rel=1e-9)


def test_mcnemar_is_symmetric_and_large_counts_are_exact() -> None:
    assert mcnemar(3, 9) == mcnemar(9, 3)
    z = (3200 - 3000) / math.sqrt(6200)
    assert mcnemar(3200, 3000).mid_p == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_by_its_definition(p_values: list[float]) -> None:
    """At any level, the adjusted p reject exactly what the step-down procedure rejects."""
    adjusted = holm(p_values)
    for level in (0.01, 0.05, 0.2, 0.9):
        rejected: set[int] = set()
        for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
            if p_values[index] * (len(p_values) - step) > level:
                break
            rejected.add(index)
        assert {i for i, p in enumerate(adjusted) if p <= level} == rejected
    assert all(p >= q for p, q in zip(adjusted, p_values, strict=True))


def test_holm_on_the_six_published_pairs() -> None:
    """Video-XL-2's settings on LVBench and Video-MME: the smallest p, 0.023, becomes 0.14."""
    assert min(holm([0.060, 0.298, 0.023, 0.585, 0.682, 0.345])) == pytest.approx(0.138)


def test_agreement() -> None:
    equal, kappa = agreement(list("AABBC"), list("AABCC"))
    chance = (2 * 2 + 2 * 1 + 1 * 2) / 25
    assert (equal, kappa) == (0.8, pytest.approx((0.8 - chance) / (1 - chance)))
    assert agreement(["A", None], ["A", None]) == (1, 1)
    assert math.isnan(agreement(["A"], ["A"]).kappa) and math.isnan(agreement([], []).equal)


def test_normal_helpers() -> None:
    assert normal_interval(50, 1) == pytest.approx((48.04, 51.96), abs=0.001)
    assert detectable_difference(0.86) == pytest.approx(2.41, abs=0.005)


@pytest.mark.parametrize("clusters", [2, 10, 100])
def test_saturated_interval_is_the_exact_binomial_one(clusters: int) -> None:
    low, high = saturated_interval(clusters, right=True)
    assert high == 1 and low**clusters == pytest.approx(0.025)
    assert saturated_interval(clusters, right=False) == pytest.approx((0, 1 - low))


@given(st.floats(0, 1), st.integers(2, 500))
def test_wilson_ends_are_the_rates_that_the_normal_test_just_keeps(rate: float, trials: int) -> None:
    for end in wilson_interval(rate, trials):
        assert abs(rate - end) == pytest.approx(1.959964 * math.sqrt(max(end * (1 - end), 0) / trials), abs=1e-6)
