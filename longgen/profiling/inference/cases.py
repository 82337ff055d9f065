"""What is timed: slices of a model, the whole model, and how long a context fits."""

from __future__ import annotations

from dataclasses import dataclass

from longgen.profiling.inference.words import (
    KV_CACHE,
    LONGEST,
    MODEL_DECODE,
    MODEL_PREFILL,
    SLICE_DECODE,
    SLICE_PREFILL,
)
from longgen.profiling.stacks import TINY, Stack, is_large_for
from longgen.shapes import MODEL_SHAPES, ModelShape

# By what is done: slices are timed and the model composed of them; the whole model is timed; or is filled until it is
# out of memory; or the bytes of its cache are counted, a layer at a time.
SLICES, WHOLE, FILLED, CACHE = "slices", "whole", "filled", "cache"

PREFILL, DECODE = "prefill", "decode"
MOST_SEQUENCES = 64  # of a batch
STAGES = (PREFILL, DECODE)
WHAT = {
    SLICES: {PREFILL: SLICE_PREFILL, DECODE: SLICE_DECODE},
    WHOLE: {PREFILL: MODEL_PREFILL, DECODE: MODEL_DECODE},
}


@dataclass(frozen=True)
class Case:
    """One thing to do.

    Attributes:
        how: `SLICES`, `WHOLE`, `FILLED` or `CACHE`.
        shape: of the whole model.
        length: tokens of a sequence; None where the device decides: how many are filled, or the longest context that
            full attention was found to have room for, if the case before could not take the whole model.
        batch: sequences, all of the same length.
    """

    how: str
    shape: ModelShape
    length: int | None = None
    batch: int = 1

    @property
    def identities(self) -> list[dict[str, object]]:
        """What all records have that come of it, in ``what``, ``composed``, ``shape``, ``batch`` and ``length``."""
        same = {"shape": self.shape.name, "batch": self.batch}
        if self.how == FILLED:  # its lengths are results
            return [{"what": LONGEST, "composed": False, **same}]
        if self.how == CACHE:
            return [{"what": KV_CACHE, "composed": False, "length": self.length, **same}]
        kinds = [(what, False) for what in WHAT[self.how].values()]
        if self.how == SLICES:
            kinds += [(what, True) for what in WHAT[WHOLE].values()]
        return [{"what": what, "composed": composed, "length": self.length, **same} for what, composed in kinds]


def cost(stage: str, stack: Stack, case: Case, bytes_per_value: int) -> int:
    """What a stage of a case needs at least: floating-point operations to prefill, bytes read in a step of decoding."""
    assert case.length is not None
    model = stack.model(case.shape)
    if stage == PREFILL:
        return model.prefill_flops(case.length, case.batch)
    return model.decode_bytes(case.length, case.batch, bytes_per_value)


def check_batch(batch: int) -> str | None:
    """Why there cannot be ``batch`` sequences, in words; None if there can."""
    return None if 1 <= batch <= MOST_SEQUENCES else f"--batch is {batch}: allowed are 1..{MOST_SEQUENCES}"


def cases_of(shape: ModelShape, lengths: list[int], batch: int = 1, device: str = "cuda") -> list[Case]:
    """All that there is to know of one model, in order of what is missed most; at true shapes on a CPU, of its layers.

    There the whole model would take hours.
    """
    longest, others = max(lengths), [length for length in dict.fromkeys(lengths) if length != max(lengths)]
    if is_large_for(device, shape):
        asked: list[tuple[str, int | None]] = [(SLICES, longest), (CACHE, longest)]
        asked += [(SLICES, length) for length in others]
    else:
        asked = [(SLICES, longest), (WHOLE, longest), (CACHE, longest), (FILLED, None), (WHOLE, None)]
        asked += [(how, length) for length in others for how in (WHOLE, SLICES)]
    return [Case(how, shape, length, batch) for how, length in asked]


def first_cases(tiny: bool, batch: int = 1) -> list[Case]:
    """What is missed most: the scale of the paper's claims, and what of it fits."""
    return cases_of(TINY, [512], batch) if tiny else cases_of(MODEL_SHAPES["llama2-7b"], [131072], batch)


def more_cases(tiny: bool, batch: int = 1) -> list[Case]:
    """All others, in order of what is missed most."""
    if tiny:
        return [Case(WHOLE, TINY, 256, batch)]
    small, large = MODEL_SHAPES["llama2-7b"], MODEL_SHAPES["llama2-70b"]
    asked = [(WHOLE, small, 32768), (SLICES, large, 131072)]  # the weights of 70B alone exceed one GPU
    asked += [(WHOLE, small, length) for length in (65536, 8192, 16384, 4096)]
    asked += [(SLICES, large, length) for length in (32768, 65536, 8192, 16384, 4096)]
    return [Case(how, shape, length, batch) for how, shape, length in asked]
