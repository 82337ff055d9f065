"""A benchmark's own averages over tasks, with intervals: what its tables and papers print."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000


class Cell(NamedTuple):
    """Samples whose scores are averaged first."""

    task: str
    length: int | None
    depth: float | None
    metric: str


@dataclass(frozen=True)
class Summary:
    """One number over several cells.

    Attributes:
        name: unique within benchmark and length.
        length: in tokens; None over all lengths.
        cells: behind it.
        value: in ``unit``; None where there is none.
        unit: ``percent`` or ``tokens``.
    """

    name: str
    length: int | None
    cells: tuple[Cell, ...]
    value: float | None
    unit: str = "percent"


# mean score of every cell, 0 to 1 -> summaries
Summarise = Callable[[Mapping[Cell, float]], list[Summary]]


@dataclass(frozen=True)
class Estimate:
    """A summary with its 95 % bootstrap interval over samples within cells; none for lengths in tokens."""

    summary: Summary
    n: int
    low: float | None
    high: float | None


def estimates(scores: Mapping[Cell, list[float]], summarise: Summarise, seed: int = 0) -> list[Estimate]:
    """Summaries of the scores of samples.

    Args:
        scores: 0 to 1, of every cell.
        summarise: the benchmark's.
        seed: of the resampling.
    """
    generator = np.random.default_rng(seed)
    resampled: list[dict[tuple[str, int | None], float]] = []
    draws = {}
    for cell, values in scores.items():
        data = np.asarray(values, dtype=np.float64)
        draws[cell] = data[generator.integers(0, len(data), size=(RESAMPLES, len(data)))].mean(axis=1)
    for index in range(RESAMPLES):
        found = summarise({cell: float(values[index]) for cell, values in draws.items()})
        resampled.append({(each.name, each.length): each.value for each in found if each.value is not None})
    made = []
    for summary in summarise({cell: float(np.mean(values)) for cell, values in scores.items()}):
        n = sum(len(scores[cell]) for cell in summary.cells)
        if summary.unit == "percent":
            low, high = np.percentile([values[summary.name, summary.length] for values in resampled], [2.5, 97.5])
            made.append(Estimate(summary, n, float(low), float(high)))
        else:
            made.append(Estimate(summary, n, None, None))
    return made
