"""What a training step is put together of on a CPU, and how. Importable without transformers, as records need it."""

from __future__ import annotations

from typing import NamedTuple

from longgen.profiling.attention.workloads import FULL, PATTERNS
from longgen.profiling.compose import REST
from longgen.shapes import ModelShape

# What is timed besides the attention of each kind of layer.
TOKENS, HEAD, UPDATE = "layer without attention", "embeddings and LM head", "update"
LAYER_KINDS = (FULL, *PATTERNS)
PARTS = (*LAYER_KINDS, TOKENS, HEAD, UPDATE)


class Piece(NamedTuple):
    """What was timed of a part.

    Attributes:
        seconds: of one piece.
        number: how often it occurs in a step: of a layer, or of what is no layer.
    """

    seconds: float
    number: float

    @property
    def total(self) -> float:
        """Seconds of the part."""
        return self.seconds * self.number


def seconds_of_parts(pieces: dict[str, Piece], shape: ModelShape) -> dict[str, float]:
    """Seconds of a layer of every kind and of the rest, as `longgen.profiling.compose.parts_of` gives them of slices.

    Args:
        pieces: by the names in `PARTS`; that of the update is of a single weight.
        shape: of the model.
    """
    update = pieces[UPDATE].total
    layer = pieces[TOKENS].total + update * shape.layer_weights
    found = {kind: pieces[kind].total + layer for kind in LAYER_KINDS}
    return {REST: pieces[HEAD].total + update * 2 * shape.head_weights} | found
