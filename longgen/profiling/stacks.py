"""Slices of a model, which can be timed where the whole does not fit, and the whole models composed of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

from longgen.hybrid import Hybrid
from longgen.layout import Layout, make_layout
from longgen.model import Model
from longgen.profiling.device import Precision, free_memory, precision_on
from longgen.profiling.workloads import FULL, PATTERNS
from longgen.records.kernels import InferenceSpeedRecord, TrainingSpeedRecord
from longgen.shapes import MODEL_SHAPES, ModelShape

SINK, STRIDE = PATTERNS  # names
TINY = ModelShape("tiny", 16, 64, 128, 4, 2, 16, 256)  # to try the code on a CPU
# Those whose layers are Llama's; Qwen's normalise queries and keys besides.
SHAPES = {name: shape for name, shape in MODEL_SHAPES.items() if not name.startswith("qwen")} | {TINY.name: TINY}

# Layers of a slice, where they fit: 3 of 8 are full in the ratio 12/32, and more would cost time without telling more.
MOST_LAYERS = 8
FEWEST_LAYERS = 1  # then a slice is one layer of one kind
# Full layers of the whole models: the two readings of the paper's third, see paper_claims.yaml.
FULL_SHARES = ("1/3", "3/8")
OUT_OF_MEMORY = "ran out of memory"  # though it was predicted to fit

Record = TypeVar("Record", TrainingSpeedRecord, InferenceSpeedRecord)


def is_trial(device: str, shape: ModelShape) -> bool:
    """Whether ``shape`` there only tries the code out."""
    return device == "cpu" and shape.name == TINY.name


def is_large_for(device: str, shape: ModelShape) -> bool:
    """Whether steps take so long there that only single layers are timed: true shapes on a CPU."""
    return device == "cpu" and not is_trial(device, shape)


def precision_of(device: str, shape: ModelShape) -> Precision:
    """In which a model of ``shape`` is trained and run there."""
    return precision_on(device, is_trial(device, shape))


@dataclass(frozen=True)
class Stack:
    """Decoder layers on top of each other, the full ones in the middle; with embeddings and LM head, a model.

    Of no layers these are left alone.

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

    @property
    def hybrid(self) -> Hybrid:
        """Layout and pattern; of no layer where all are full."""
        return Hybrid(self.layout, PATTERNS.get(self.pattern, PATTERNS[SINK]))

    def cut(self, shape: ModelShape) -> ModelShape:
        """``shape`` with as many layers."""
        return replace(shape, num_layers=self.num_layers)

    def model(self, shape: ModelShape) -> Model:
        """A model of ``shape`` with these layers."""
        return Model(self.cut(shape), self.hybrid)


def slices(num_layers: int) -> list[Stack]:
    """The slices whose steps are timed: the first is full attention, which the others are compared with.

    Two hybrids at the ratio 12/32, as near as so few layers come to it; and all layers sparse, twice, at different
    depths: from these and the first follow the seconds of every kind of layer and of the rest, with one to spare. Of a
    single layer there is one of each kind, and what is left without any.
    """
    if num_layers == 1:
        return [Stack(FULL, 1, 1), *(Stack(name, 1, 0) for name in PATTERNS), Stack(FULL, 0, 0)]
    full_layers = max(1, round(num_layers * 12 / 32))
    hybrids = [Stack(name, num_layers, full_layers) for name in PATTERNS]
    return [Stack(FULL, num_layers, num_layers), *hybrids, Stack(SINK, num_layers, 0), Stack(SINK, num_layers // 2, 0)]


class TooLargeError(Exception):
    """Why so many layers are not tried."""


def measure_most_layers(
    counts: Iterable[int], measure: Callable[[int, list[str]], list[Record]], device: str
) -> list[Record]:
    """The records of a slice of the first of ``counts`` that memory takes; their notes say why it is not one before.

    Args:
        counts: numbers of layers, the largest first.
        measure: of a number of layers, and the notes so far. It raises `TooLargeError`, or runs out of memory.
        device: where.

    Raises:
        ValueError: memory takes none.
    """
    notes: list[str] = []
    for count in counts:
        try:
            records = measure(count, notes)
            return [replace(each, note="; ".join(filter(None, [*notes, each.note])) or None) for each in records]
        except TooLargeError as error:
            reason = str(error)
        except torch.OutOfMemoryError:
            reason = OUT_OF_MEMORY
        notes.append(f"{count} layers: {reason}")
        free_memory(device)  # only now: the exception held the model
    raise ValueError("; ".join(notes))


def whole_models(shape: ModelShape) -> list[Stack]:
    """The whole model with full attention, and the hybrids of the paper's ratio."""
    count = shape.num_layers
    hybrids = [
        Stack(name, count, int(make_layout(count, share).num_full)) for name in PATTERNS for share in FULL_SHARES
    ]
    return [Stack(FULL, count, count), *hybrids]
