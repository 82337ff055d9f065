"""What is timed: slices of a model, and the whole models that are composed of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from longgen.layout import Layout, make_layout
from longgen.planner.costs import training_flops
from longgen.profiling.attention.workloads import FULL, PATTERNS
from longgen.shapes import MODEL_SHAPES, ModelShape

SINK, STRIDE = PATTERNS  # names
TINY = ModelShape("tiny", 16, 64, 128, 4, 2, 16, 256)  # to try the code on a CPU
# Those whose layers are Llama's; Qwen's normalise queries and keys besides.
SHAPES = {name: shape for name, shape in MODEL_SHAPES.items() if not name.startswith("qwen")} | {TINY.name: TINY}

# Layers of a slice, where they fit: 3 of 8 are full in the ratio 12/32, and more would cost time without telling more.
MOST_LAYERS = 8
FEWEST_LAYERS = 2  # one of each kind
# Full layers of the whole models: the two readings of the paper's third, see paper_claims.yaml.
FULL_SHARES = ("1/3", "3/8")


@dataclass(frozen=True)
class Stack:
    """Decoder layers on top of each other, the full ones in the middle; with embeddings and LM head, a model.

    Attributes:
        pattern: of the layers that are not full, a name in `PATTERNS`; ``full`` where all are.
        num_layers: how many.
        full_layers: how many of them are full.
    """

    pattern: str
    num_layers: int
    full_layers: int

    @property
    def layout(self) -> Layout:
        """Which layers are full."""
        return make_layout(self.num_layers, self.full_layers, "middle")

    @property
    def layers(self) -> Counter[str]:
        """How many layers there are of each kind: ``full``, or the name of a pattern."""
        counts = Counter({FULL: self.full_layers, self.pattern: self.num_layers - self.full_layers})
        return +counts if self.pattern != FULL else Counter({FULL: self.num_layers})

    def flops(self, shape: ModelShape, length: int, recompute: bool = False) -> int:
        """Floating-point operations of a training step on one row of ``length`` tokens (`training_flops`)."""
        pattern = PATTERNS.get(self.pattern, PATTERNS[SINK])  # of no layer, if all are full
        shape = replace(shape, num_layers=self.num_layers)
        return training_flops(shape, self.layout, pattern, length, recompute=recompute)


def slices(num_layers: int) -> list[Stack]:
    """The slices whose steps are timed: the first is full attention, which the others are compared with.

    Two hybrids at the ratio 12/32, as near as so few layers come to it; and all layers sparse, twice, at different
    depths: from these and the first follow the seconds of every kind of layer and of the rest, with one to spare.
    """
    full_layers = max(1, round(num_layers * 12 / 32))
    hybrids = [Stack(name, num_layers, full_layers) for name in PATTERNS]
    return [Stack(FULL, num_layers, num_layers), *hybrids, Stack(SINK, num_layers, 0), Stack(SINK, num_layers // 2, 0)]


def whole_models(shape: ModelShape) -> list[Stack]:
    """The whole model with full attention, and the hybrids of the paper's ratio."""
    count = shape.num_layers
    hybrids = [
        Stack(name, count, int(make_layout(count, share).num_full)) for name in PATTERNS for share in FULL_SHARES
    ]
    return [Stack(FULL, count, count), *hybrids]


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
