"""What fits in memory, by the planner's arithmetic; and the search for the most that does."""

from __future__ import annotations

from collections.abc import Callable

from longgen.cache_layout import GROWTH_TOKENS
from longgen.planner.gpus import GIB
from longgen.profiling.stacks import Stack
from longgen.shapes import ModelShape

OUT_OF_MEMORY = "ran out of memory"  # though it was predicted to fit


def predicted_bytes(
    shape: ModelShape, stack: Stack, length: int, chunk: int, bytes_per_value: int, batch: int = 1
) -> int:
    """Most memory of ``stack`` with ``length`` tokens of each sequence: weights, and prefill or the cache of decoding.

    Workspaces of attention and of the CUDA context are not counted: what is predicted to fit may still not.
    """
    model = stack.model(shape)
    prefill = model.prefill_peak_bytes(length, chunk, batch, bytes_per_value)
    cache = model.kv_cache_bytes(length, bytes_per_value, batch, full_chunk=GROWTH_TOKENS, slots=True)
    return max(prefill, model.shape.parameters * bytes_per_value + cache)


def why_not(needed: int, available: int, what: str) -> str | None:
    """In words, why ``needed`` bytes do not fit in those of ``what`` that are available; None if they do."""
    if needed <= available:
        return None
    return f"predicted to need {needed / GIB:.1f} GiB: there are {available / GIB:.1f} GiB of {what}"


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest number of 1..``most`` that fits, if all smaller ones do; 0 if there is none.

    Sought from ``most`` down in steps that double, as it is mostly near; then by bisection.
    """
    low, high = most, most + 1  # high does not fit
    while low > 0 and not fits(low):
        low, high = low - 2 * (high - low), low
    low = max(0, low)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
