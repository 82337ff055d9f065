"""Which training steps are timed, and how many operations each needs."""

from __future__ import annotations

from collections.abc import Iterator

from longgen.profiling.stacks import TINY, Stack
from longgen.shapes import MODEL_SHAPES, ModelShape


def step_flops(stack: Stack, shape: ModelShape, length: int, recompute: bool = False) -> int:
    """Floating-point operations of a step of ``stack`` on one row of ``length`` tokens (`Model.training_flops`)."""
    return stack.model(shape).training_flops(length, recompute=recompute)


def first_cases(tiny: bool) -> Iterator[tuple[ModelShape, int]]:
    """Shape and tokens of what is missed most: the scale of the paper's claim."""
    yield (TINY, 512) if tiny else (MODEL_SHAPES["llama2-7b"], 131072)


def more_cases(tiny: bool) -> Iterator[tuple[ModelShape, int]]:
    """Shape and tokens of all others, in order of what is missed most."""
    if tiny:
        yield TINY, 1024
        return
    small, large = MODEL_SHAPES["llama2-7b"], MODEL_SHAPES["llama2-70b"]
    yield from ((small, length) for length in (32768, 65536))
    yield from ((large, length) for length in (131072, 32768))
    yield from ((small, length) for length in (8192, 4096))
