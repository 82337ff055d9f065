"""What records of kinds ``training-speed`` and ``inference-speed`` say in words: shared by who measures and reports."""

from __future__ import annotations

from collections.abc import Mapping

# What a record of kind ``training-speed`` is about. The time of a slice is measured, or those of parts of layers; the
# others follow from these, and are called composed.
SLICE, COMPOSED_REST, COMPOSED_LAYER, COMPOSED_MODEL = "slice", "composed rest", "composed layer", "composed model"
# Parts: the attention of a layer in a share of its heads, a tile of tokens through what else it does, another through
# embeddings and LM head, and the update of one weight.
PART_ATTENTION, PART_LAYER, PART_HEAD, PART_UPDATE = (
    *("attention of a share of heads", "a tile through a layer without attention"),
    *("a tile through embeddings and LM head", "update of a weight"),
)
PARTS = (PART_ATTENTION, PART_LAYER, PART_HEAD, PART_UPDATE)

# What a record of kind ``inference-speed`` is about. Whether a whole model ran as such or is composed of slices, the
# column ``composed`` says.
SLICE_PREFILL, SLICE_DECODE = "slice-prefill", "slice-decode"
MODEL_PREFILL, MODEL_DECODE = "model-prefill", "model-decode"
LONGEST_CONTEXT = "longest-context"
KV_CACHE = "kv-cache"  # bytes alone, of a whole model's cache at a length


def never_slower_from(speedups: Mapping[int, float]) -> int | None:
    """The least length from which on no speed-up is below 1; None if there is no such length.

    Args:
        speedups: by length; lower ends of their intervals, so that what is too uncertain counts as slower.
    """
    slower = max((length for length, speedup in speedups.items() if speedup < 1), default=0)
    return min((length for length in speedups if length > slower), default=None)
