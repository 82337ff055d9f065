"""BABILong's numbers for tables: accuracy in percent, and its mean over the first five tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longgen.evaluation.protocol import protocol
from longgen.evaluation.summaries import Cell, Summary
from longgen.strict import require


def accuracy(scores: Sequence[float]) -> float:
    """Percent of right answers of a task at a length (collect_results.py).

    Raises:
        ConfigError: there are no scores.
    """
    require(len(scores) > 0, "scores", list(scores), "one or more")
    return 100 * sum(scores) / len(scores)


def average(accuracies: Mapping[str, float]) -> float | None:
    """Mean over qa1 to qa5 at one length, the benchmark's ``avg``; None where one of them is missing.

    Args:
        accuracies: of tasks at one length, by name; those of other tasks are not used.
    """
    tasks = protocol("babilong")["averaged"]
    if any(task not in accuracies for task in tasks):
        return None
    return sum(accuracies[task] for task in tasks) / len(tasks)


def summarise(means: Mapping[Cell, float]) -> list[Summary]:
    """`average` at every length at which it exists."""
    summaries = []
    for length in dict.fromkeys(cell.length for cell in means):
        here = {cell.task: cell for cell in means if cell.length == length}
        value = average({task: accuracy([means[cell]]) for task, cell in here.items()})
        if value is not None:
            cells = tuple(here[task] for task in protocol("babilong")["averaged"])
            summaries.append(Summary("average", length, cells, value))
    return summaries
