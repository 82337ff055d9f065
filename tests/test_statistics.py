"""Intervals."""

from __future__ import annotations

import numpy as np
import pytest

from longgen.statistics import bootstrap_interval, mean_interval, wilson_interval


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.706), (5, 2.776), (31, 2.042), (32, 2.0395), (500, 1.9647)])
def test_the_interval_of_a_mean_is_students(count: int, quantile: float) -> None:
    values = np.random.default_rng(count).normal(3, 2, count)
    half = quantile * values.std(ddof=1) / np.sqrt(count)
    assert mean_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), rel=2e-3)


def test_equal_values_have_no_width() -> None:
    assert mean_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


def test_intervals_of_counts_and_by_resampling() -> None:
    low, high = wilson_interval(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Wilson 1927, by hand
    assert wilson_interval(0, 5)[0] == 0.0
    assert wilson_interval(5, 5)[1] == 1.0
    assert wilson_interval(0, 0) == (0.0, 1.0)
    values = np.random.default_rng(0).normal(3.0, 1.0, 400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert bootstrap_interval([2.0, 2.0, 2.0], "median") == (2.0, 2.0)
