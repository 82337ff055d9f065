"""Intervals that other tests do not cover."""

from __future__ import annotations

import numpy as np
import pytest

from longgen.statistics import mean_interval


@pytest.mark.parametrize(("count", "quantile"), [(2, 12.706), (5, 2.776), (31, 2.042), (32, 2.0395), (500, 1.9647)])
def test_the_interval_of_a_mean_is_students(count: int, quantile: float) -> None:
    values = np.random.default_rng(count).normal(3, 2, count)
    half = quantile * values.std(ddof=1) / np.sqrt(count)
    assert mean_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), rel=2e-3)


def test_equal_values_have_no_width() -> None:
    assert mean_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)
