"""What is timed: slices of a model, the whole model, and how long a context fits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from longgen.planner.costs import decode_bytes, prefill_flops
from longgen.profiling.inference.words import LONGEST, MODEL_DECODE, MODEL_PREFILL, SLICE_DECODE, SLICE_PREFILL
from longgen.profiling.stacks import TINY, Stack
from longgen.shapes import MODEL_SHAPES, ModelShape

# By what is done: slices are timed and the model composed of them; the whole model is timed; or is filled until it is
# out of memory.
SLICES, WHOLE, FILLED = "slices", "whole", "filled"

PREFILL, DECODE = "prefill", "decode"
STAGES = (PREFILL, DECODE)
WHAT = {
    SLICES: {PREFILL: SLICE_PREFILL, DECODE: SLICE_DECODE},
    WHOLE: {PREFILL: MODEL_PREFILL, DECODE: MODEL_DECODE},
}


@dataclass(frozen=True)
class Case:
    """One thing to do.

    Attributes:
        how: `SLICES`, `WHOLE` or `FILLED`.
        shape: of the whole model.
        length: tokens; None where the device decides: how many are filled, or the longest context that full attention
            was found to have room for, if the case before could not take the whole model.
    """

    how: str
    shape: ModelShape
    length: int | None = None

    @property
    def identities(self) -> list[dict[str, object]]:
        """What all records have that come of it, in the columns ``what``, ``shape``, ``composed`` and ``length``."""
        if self.how == FILLED:  # its lengths are results
            return [{"what": LONGEST, "shape": self.shape.name, "composed": False}]
        kinds = [(what, False) for what in WHAT[self.how].values()]
        if self.how == SLICES:
            kinds += [(what, True) for what in WHAT[WHOLE].values()]
        same = {"shape": self.shape.name, "length": self.length}
        return [{"what": what, "composed": composed, **same} for what, composed in kinds]


def cost(stage: str, stack: Stack, shape: ModelShape, length: int, bytes_per_value: int) -> int:
    """What a stage needs at least: floating-point operations to prefill, bytes read to decode a token."""
    arguments = (stack.cut(shape), stack.layout, stack.hybrid.pattern, length)
    if stage == PREFILL:
        return prefill_flops(*arguments)
    return decode_bytes(*arguments, bytes_per_value=bytes_per_value)


def cases_of(shape: ModelShape, lengths: list[int]) -> list[Case]:
    """All that there is to know of one model, in order of what is missed most."""
    longest = max(lengths)
    first = [Case(SLICES, shape, longest), Case(WHOLE, shape, longest), Case(FILLED, shape), Case(WHOLE, shape)]
    more = [Case(how, shape, length) for length in lengths if length != longest for how in (WHOLE, SLICES)]
    return first + more


def first_cases(tiny: bool) -> Iterator[Case]:
    """What is missed most: the scale of the paper's claims, and what of it fits."""
    yield from cases_of(TINY, [512]) if tiny else cases_of(MODEL_SHAPES["llama2-7b"], [131072])


def more_cases(tiny: bool) -> Iterator[Case]:
    """All others, in order of what is missed most."""
    if tiny:
        yield Case(WHOLE, TINY, 256)
        return
    small, large = MODEL_SHAPES["llama2-7b"], MODEL_SHAPES["llama2-70b"]
    yield Case(WHOLE, small, 32768)
    yield Case(SLICES, large, 131072)  # its weights alone exceed one GPU
    yield from (Case(WHOLE, small, length) for length in (65536, 8192, 16384, 4096))
    yield from (Case(SLICES, large, length) for length in (32768, 65536, 8192, 4096))
