"""Scores of predictions, as the official evaluate.py gives them, and the tables of the official README."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from longgen.errors import ConfigError
from longgen.evaluation.protocol import protocol
from longgen.evaluation.ruler.tasks import TASKS, find_task
from longgen.evaluation.samples import Sample
from longgen.evaluation.summaries import Cell, Summary

CONTROL = re.compile(r"[\x00-\x1f]")


def cleaned(prediction: str) -> str:
    """A prediction with newlines for control characters, and nothing blank around it."""
    return CONTROL.sub("\n", prediction.strip()).strip()


def score(sample: Sample, prediction: str) -> float:
    """How right a prediction is, 0 to 1, letters' case aside.

    Args:
        sample: of one of the 13 tasks.
        prediction: text after the prompt.

    Returns:
        the share of answers that the prediction contains; for the tasks ``qa`` 1 if it contains any, else 0.
    """
    text = cleaned(prediction).lower()
    matches = [1.0 if answer.lower() in text else 0.0 for answer in sample.answers]
    return max(matches) if find_task(sample.task).match == "part" else sum(matches) / len(matches)


def null_count(predictions: Iterable[str]) -> int:
    """How many predictions are empty, which the official table lists as ``Nulls``."""
    return sum(not cleaned(prediction) for prediction in predictions)


def task_score(scores: Sequence[float]) -> float:
    """Score of a task at one length, 0 to 100 with two decimals, from those of its samples (at least one), 0 to 1."""
    return round(sum(scores) / len(scores) * 100, 2)


def length_average(task_scores: Mapping[str, float]) -> float:
    """Average at one length over the scores of all 13 tasks, 0 to 100.

    Raises:
        ConfigError: a task is missing or unknown: the average of others is not RULER's.
    """
    if set(task_scores) != set(TASKS):
        raise ConfigError(f"tasks are {', '.join(task_scores)}: RULER's average is over {', '.join(TASKS)}")
    return sum(task_scores.values()) / len(TASKS)


def effective_length(averages: Mapping[int, float]) -> int | None:
    """The greatest length whose average, with one decimal, reaches what Llama-2 7B has at 4K; None if none does.

    Args:
        averages: by length in tokens, 0 to 100.
    """
    good = [length for length, average in averages.items() if round(average, 1) >= protocol("ruler")["threshold"]]
    return max(good, default=None)


def weighted_averages(averages: Mapping[int, float]) -> tuple[float, float]:
    """Averages over lengths, weighted by their rank: the longest most (``inc``), the shortest most (``dec``).

    Args:
        averages: by length in tokens (at least one), 0 to 100; the official ones are 4K, 8K, ... 128K.
    """
    values = [averages[length] for length in sorted(averages)]
    weights = range(1, len(values) + 1)
    rising = sum(weight * value for weight, value in zip(weights, values, strict=True))
    falling = sum(weight * value for weight, value in zip(reversed(weights), values, strict=True))
    return rising / sum(weights), falling / sum(weights)


def summarise(means: Mapping[Cell, float]) -> list[Summary]:
    """The README's numbers; of lengths at which a task is missing, none."""
    averages: dict[int, float] = {}
    cells: dict[int, tuple[Cell, ...]] = {}
    for length in sorted({cell.length or 0 for cell in means}):
        here = {cell.task: cell for cell in means if cell.length == length}
        if set(here) == set(TASKS):
            averages[length] = length_average({task: task_score([means[cell]]) for task, cell in here.items()})
            cells[length] = tuple(here.values())
    if not averages:
        return []
    summaries = [Summary("average", length, cells[length], average) for length, average in averages.items()]
    everything = tuple(cell for of_length in cells.values() for cell in of_length)
    rising, falling = weighted_averages(averages)
    summaries.append(Summary("weighted-increasing", None, everything, rising))
    summaries.append(Summary("weighted-decreasing", None, everything, falling))
    return [*summaries, Summary("effective-length", None, everything, effective_length(averages), "tokens")]
