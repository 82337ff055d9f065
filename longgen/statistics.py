"""Confidence intervals for what is reported, and the draws that others come from."""

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


# Two-sided 95 % of Student's t, by degrees of freedom from 1 on.
_T95 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of ``values`` (at least two) by Student's t.

    For few values, of which the bootstrap's intervals are too narrow: of paired differences mostly.
    """
    data = np.asarray(values, dtype=np.float64)
    freedom = len(data) - 1
    # beyond the table the first term of Cornish and Fisher's expansion errs by 0.2 % at most
    quantile = _T95[freedom - 1] if freedom <= len(_T95) else Z95 + (Z95**3 + Z95) / (4 * freedom)
    half = quantile * float(data.std(ddof=1)) / math.sqrt(len(data))
    return float(data.mean()) - half, float(data.mean()) + half


def score_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of scores (at least one) of samples.

    Wilson's where samples are right or wrong, as resampling equal answers shows no doubt; else bootstrap.
    """
    if set(values) <= {0.0, 1.0}:
        return wilson_interval(int(sum(values)), len(values))
    return bootstrap_interval(values)


def difference_interval(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Difference of two estimates and its 95 % interval, from theirs.

    Of independent ones: MOVER (Zou and Donner 2008, doi:10.1002/sim.3095), which for two proportions with Wilson's
    intervals is Newcombe's method 10 (1998). Variants are asked the same questions, so that treating them as
    independent is on the cautious side. Ends that are not known are NaN, and then so are those of the difference.

    Args:
        first: an estimate, and the ends of its interval.
        second: the one subtracted.
    """
    (p, p_low, p_high), (q, q_low, q_high) = first, second
    difference = p - q
    return (
        difference,
        difference - math.hypot(p - p_low, q_high - q),
        difference + math.hypot(p_high - p, q - q_low),
    )


def draw_share(right: float, n: int, generator: np.random.Generator, size: int | tuple[int, ...]) -> np.ndarray:
    """Shares that may be behind ``right`` of ``n`` answers, from Jeffreys' posterior."""
    return generator.beta(right + 0.5, n - right + 0.5, size=size)


def draw_shares(counts: np.ndarray, generator: np.random.Generator, shape: tuple[int, ...], prior: float) -> np.ndarray:
    """[*shape, cells of counts]: shares that may be behind ``counts``, from their Dirichlet posterior.

    The prior weighs as ``prior`` samples, however many cells there are, spread evenly. That of right and wrong answers
    (1) is Jeffreys', and so is that of pairs of these (2).
    """
    flat = counts.ravel()
    return generator.dirichlet(flat + prior / flat.size, size=shape)
