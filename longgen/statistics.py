"""Confidence intervals for what is reported: proportions and medians."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion; (0, 1) without samples."""
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    centre = (share + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 * math.sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / (1 + Z95**2 / n)
    # a proportion of 0 or 1 is inside its own interval, also after rounding
    return max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share))


def bootstrap_interval(
    values: Sequence[float] | np.ndarray, statistic: str = "mean", resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the ``mean`` or ``median`` of ``values`` (at least one)."""
    data = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(data), size=(resamples, len(data)))
    estimates = getattr(np, statistic)(data[draws], axis=1)
    low, high = np.percentile(estimates, [2.5, 97.5])
    return float(low), float(high)


def score_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of scores (at least one) of samples.

    Wilson's where samples are right or wrong, as resampling equal answers shows no doubt; else bootstrap.
    """
    if set(values) <= {0.0, 1.0}:
        return wilson_interval(int(sum(values)), len(values))
    return bootstrap_interval(values)
