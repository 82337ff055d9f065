"""From the times of slices, or of pieces of layers, to that of a whole model: all layers of a kind take the same time.

So does the rest, which does not grow with the layers: embeddings, last norm, LM head and loss, with their share of
clipping and of the optimizer. Whatever is composed is so within every round, of what was measured in it; so are ratios.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from longgen.profiling.rounds import ratio_columns, time_columns
from longgen.profiling.stacks import Stack
from longgen.profiling.workloads import FULL, PATTERNS
from longgen.shapes import ModelShape

REST = "rest"
# Of a training step on a CPU, what is timed besides the attention of each kind of layer.
TOKENS, HEAD, UPDATE = "layer without attention", "embeddings and LM head", "update"
LAYER_KINDS = (FULL, *PATTERNS)
PARTS = (*LAYER_KINDS, TOKENS, HEAD, UPDATE)

StackTimes = Mapping[Stack, Sequence[float]]  # seconds in every round


def parts_of(seconds: Mapping[Stack, float]) -> dict[str, float]:
    """Seconds of the rest, and of a layer of every kind, that explain the times of slices best.

    Args:
        seconds: of a step of each slice.

    Returns:
        By `REST` and the names of `Stack.layers`. The squares of the relative errors are least: the measuring error
        of a step grows with its time.

    Raises:
        ValueError: the slices do not tell all parts apart.
    """
    kinds = sorted({kind for stack in seconds for kind in stack.layers})
    times = np.array(list(seconds.values()))
    counts = np.array([[1, *(stack.layers[kind] for kind in kinds)] for stack in seconds])
    solution, _, rank, _ = np.linalg.lstsq(counts / times[:, None], np.ones(len(times)), rcond=None)
    if rank < len(kinds) + 1:
        raise ValueError(f"{len(times)} slices: they do not tell the seconds of {', '.join(kinds)} and the rest apart")
    return dict(zip([REST, *kinds], solution.tolist(), strict=True))


def composed_seconds(parts: Mapping[str, float], stack: Stack) -> float:
    """Seconds of a step of ``stack``, of the seconds of its parts."""
    return parts[REST] + sum(count * parts[kind] for kind, count in stack.layers.items())


def parts_by_round(seconds: StackTimes) -> list[dict[str, float]]:
    """`parts_of` the slices in every round."""
    return [parts_of(dict(zip(seconds, times, strict=True))) for times in zip(*seconds.values(), strict=True)]


def composed_times(stacks: Sequence[Stack], parts: Sequence[Mapping[str, float]]) -> dict[Stack, list[float]]:
    """Seconds of ``stacks`` in every round, of those of the parts in it."""
    return {stack: [composed_seconds(each, stack) for each in parts] for stack in stacks}


def fit_errors(seconds: StackTimes, parts: Sequence[Mapping[str, float]]) -> dict[Stack, float | None]:
    """By what share of its time the sum of its parts misses each slice, the median of the rounds.

    None where there are as many parts as slices: they fit these whatever they took.
    """
    if not parts or len(seconds) <= len(parts[0]):
        return dict.fromkeys(seconds)
    return {
        stack: statistics.median(composed / time - 1 for composed, time in zip(sums, seconds[stack], strict=True))
        for stack, sums in composed_times(list(seconds), parts).items()
    }


def comparison_columns(
    seconds: StackTimes, column: str, cost: Callable[[Stack], float], parts: Sequence[Mapping[str, float]] = ()
) -> dict[Stack, dict[str, Any]]:
    """Columns of records: times, cost, and speed-ups over full attention of as many layers, if that was timed too.

    Args:
        seconds: of stacks.
        column: of the cost.
        cost: of a stack that has layers; without any, it is compared with nothing.
        parts: in every round, where ``seconds`` of slices tell them: how well they fit.
    """
    all_columns, errors = {}, fit_errors(seconds, parts)
    for stack, times in seconds.items():
        columns = {**time_columns(times), "fit_error": errors[stack]}
        if stack.num_layers:
            columns[column] = cost(stack)
            full = Stack(FULL, stack.num_layers, stack.num_layers)
            if full in seconds:
                columns |= ratio_columns(seconds[full], times)
                columns["ideal_speedup"] = ideal = cost(full) / columns[column]
                columns["fraction_of_ideal"] = columns["speedup"] / ideal
        all_columns[stack] = columns
    return all_columns


class PartTime(NamedTuple):
    """Time of a part of a training step, a name in `PARTS`, of which one piece was timed.

    Attributes:
        seconds: of the piece.
        occurrences: how often the piece occurs in a step: of a layer, or of what is no layer.
    """

    seconds: float
    occurrences: float

    @property
    def total(self) -> float:
        """Seconds of the part."""
        return self.seconds * self.occurrences


def seconds_of_parts(times: dict[str, PartTime], shape: ModelShape) -> dict[str, float]:
    """Seconds of a layer of every kind and of the rest, as `parts_of` gives them of slices.

    Args:
        times: by the names in `PARTS`; that of the update is of a single weight.
        shape: of the model.
    """
    update = times[UPDATE].total
    without_attention = times[TOKENS].total + update * shape.layer_weights
    layers = {kind: times[kind].total + without_attention for kind in LAYER_KINDS}
    return {REST: times[HEAD].total + update * 2 * shape.head_weights} | layers
