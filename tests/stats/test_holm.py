"""Holm's correction, of p-values and of the levels of intervals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evalkit.stats import holm, holm_levels


@given(st.lists(st.floats(0, 1) | st.none(), max_size=12))
def test_a_level_for_each_test_says_what_the_adjusted_p_says(p_values: list[float | None]) -> None:
    """An interval at this level leaves out 0 (p <= level) exactly where the adjusted p is at most 0.05."""
    for p, adjusted, level in zip(p_values, holm(p_values), holm_levels(p_values), strict=True):
        if p is not None and adjusted is not None and abs(p - level) > 1e-12:
            assert (p <= level) == (adjusted <= 0.05)


def test_levels_of_three_tests() -> None:
    assert holm_levels([0.001, 0.04, 0.03]) == [0.05 / 3, 0.025, 0.025]
    assert holm_levels([0.001, 0.02, 0.03]) == [0.05 / 3, 0.025, 0.05]
    assert holm_levels([None, 0.2]) == [0.05, 0.05]
