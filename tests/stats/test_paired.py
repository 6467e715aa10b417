"""Holm's correction and the agreement of answers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats import agreement, holm


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
        assert {i for i, p in enumerate(adjusted) if p is not None and p <= level} == rejected
    assert all(p is not None and p >= q for p, q in zip(adjusted, p_values, strict=True))


def test_holm_on_the_six_published_pairs() -> None:
    """Video-XL-2's settings on LVBench and Video-MME: the smallest p, 0.023, becomes 0.14."""
    assert holm([0.060, 0.298, 0.023, 0.585, 0.682, 0.345])[2] == pytest.approx(0.138)


def test_a_missing_test_does_not_count() -> None:
    assert holm([0.02, None, 0.03]) == pytest.approx([0.04, None, 0.04])
    assert holm([None]) == [None]


def test_agreement() -> None:
    equal, kappa = agreement(list("AABBC"), list("AABCC"))
    chance = (2 * 2 + 2 * 1 + 1 * 2) / 25
    assert (equal, kappa) == (0.8, pytest.approx((0.8 - chance) / (1 - chance)))
    assert agreement(["A", None], ["A", None]) == (1, 1)
    assert math.isnan(agreement(["A"], ["A"]).kappa) and math.isnan(agreement([], []).equal)
