"""A benchmark's own averages over tasks, with intervals: what its tables and papers print."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from longgen.statistics import draw_share

DRAWS = 1000


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


def means_by_length(means: Mapping[Cell, float]) -> list[Summary]:
    """By task and metric: means over the depths of every length, and over all cells."""
    summaries = []
    for task, metric in dict.fromkeys((cell.task, cell.metric) for cell in means):
        of_task = [cell for cell in means if (cell.task, cell.metric) == (task, metric)]
        for length in [*sorted({cell.length or 0 for cell in of_task}), None]:
            cells = tuple(cell for cell in of_task if length in (None, cell.length))
            value = 100 * sum(means[cell] for cell in cells) / len(cells)
            summaries.append(Summary(f"{task} {metric}", length, cells, value))
    return summaries


@dataclass(frozen=True)
class SummaryInterval:
    """A summary with its 95 % interval over samples; none for lengths in tokens."""

    summary: Summary
    n: int
    low: float | None
    high: float | None


def summary_intervals(scores: Mapping[Cell, list[float]], summarise: Summarise, seed: int = 0) -> list[SummaryInterval]:
    """Summaries of the scores of samples.

    Intervals come from drawing the mean of every cell anew: by resampling its samples, and where these are right or
    wrong from Jeffreys' posterior, since resampling equal answers shows no doubt (our choice).

    Args:
        scores: 0 to 1, of every cell.
        summarise: the benchmark's.
        seed: of the draws.
    """
    generator = np.random.default_rng(seed)
    draws = {cell: _means(np.asarray(values), generator) for cell, values in scores.items()}
    summary_draws: dict[tuple[str, int | None], list[float]] = defaultdict(list)
    for index in range(DRAWS):
        for each in summarise({cell: float(means[index]) for cell, means in draws.items()}):
            if each.value is not None:
                summary_draws[each.name, each.length].append(each.value)
    intervals = []
    for summary in summarise({cell: float(np.mean(values)) for cell, values in scores.items()}):
        n = sum(len(scores[cell]) for cell in summary.cells)
        low = high = None
        if summary.unit == "percent" and summary.value is not None:
            ends = np.percentile(summary_draws[summary.name, summary.length], [2.5, 97.5])
            low, high = min(float(ends[0]), summary.value), max(float(ends[1]), summary.value)
        intervals.append(SummaryInterval(summary, n, low, high))
    return intervals


def _means(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    if set(values.tolist()) <= {0.0, 1.0}:
        return draw_share(float(values.sum()), len(values), generator, DRAWS)
    return values[generator.integers(0, len(values), size=(DRAWS, len(values)))].mean(axis=1)
