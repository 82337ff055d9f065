"""From the times of slices to that of a whole model: every layer of a kind takes the same time, and so does the rest.

The rest is what does not grow with the layers: embeddings, last norm, LM head and loss, with their share of clipping
and of the optimizer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from longgen.profiling.stacks import Stack

REST = "rest"


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
