"""Memory of inference on one GPU, and its time at best, by arithmetic. Never a measurement."""

from __future__ import annotations

import bisect

from longgen.cache_layout import GROWTH_TOKENS, chunked
from longgen.model import Model
from longgen.planner.rates import Rates
from longgen.planner.training_memory import CONTEXT_BYTES, FRAGMENTATION

# Of weights, activations and cached values: bfloat16.
VALUE_BYTES = 2
# Tokens per forward pass over the prompt. Our choice.
PREFILL_CHUNK = 4096
# Contexts are sought in steps of so many tokens, up to so many.
STEP, LONGEST = 1024, 2**22

# Names of the components.
WEIGHTS, KV_CACHE, WORK, RESERVE = "weights", "KV cache", "layer in work", "reserve"


def inference_memory(model: Model, length: int, batch: int = 1, chunk: int = PREFILL_CHUNK) -> dict[str, int]:
    """Bytes on the GPU at the widest point of a context of ``length`` tokens, by component.

    In bfloat16, rows of the same length, in `LongGenCache` as it grows. How much of the context is the prompt is left
    open, so that the layer in work is what needs more of two: the last chunk of a prompt, and a step of decoding needs
    no more than that; or the last growth, when the keys of a full layer are in the old buffer and in the new one. The
    reserve is assumed, as in `training_memory`, except that nothing is lost to fragmentation around weights, which are
    allocated once.

    Args:
        model: whose.
        length: tokens per sequence, prompt and answer together.
        batch: sequences.
        chunk: tokens per forward pass over the prompt.

    Raises:
        ConfigError: as `Model`'s counts.
    """
    memory = {
        WEIGHTS: model.shape.parameters * VALUE_BYTES,
        KV_CACHE: model.kv_cache_bytes(length, VALUE_BYTES, batch, GROWTH_TOKENS),
        WORK: max(
            model.working_bytes(length, chunk, batch, VALUE_BYTES),
            _growth(model, length) * batch,
        ),
    }
    return memory | {RESERVE: CONTEXT_BYTES + int(FRAGMENTATION * (memory[KV_CACHE] + memory[WORK]))}


def longest_context(
    model: Model,
    available: int,
    batch: int = 1,
    chunk: int = PREFILL_CHUNK,
) -> int:
    """Most tokens per sequence, in steps of `STEP` up to `LONGEST`, for which `inference_memory` is ``available``.

    0 if not even a step fits; a model may know fewer positions.
    """

    def memory(length: int) -> int:
        return sum(inference_memory(model, length, batch, chunk).values())

    return STEP * bisect.bisect_right(range(STEP, LONGEST + 1, STEP), available, key=memory)


def prefill_seconds(
    model: Model,
    length: int,
    rates: Rates,
    batch: int = 1,
    chunk: int = PREFILL_CHUNK,
) -> float:
    """Seconds of reading the prompt at best: the longer of its FLOPs, and of reading the weights for every chunk.

    In bfloat16. Not counted: reading what is cached once more for every chunk, activations, start-up of kernels.

    Raises:
        ConfigError: as `Model`'s counts.
    """
    weights = -(-length // chunk) * model.shape.parameters * VALUE_BYTES
    return max(model.prefill_flops(length, batch) / rates.flops, weights / rates.bandwidth)


def decode_seconds(model: Model, length: int, rates: Rates, batch: int = 1) -> float:
    """Seconds of a decode step after ``length`` cached tokens at best: the longer of its FLOPs and of what it reads.

    In bfloat16; a step gives one token for every sequence. Activations and start-up of kernels are not counted.

    Raises:
        ConfigError: as `Model`'s counts.
    """
    flops = model.decode_flops(length, batch) / rates.flops
    return max(flops, model.decode_bytes(length, batch, VALUE_BYTES) / rates.bandwidth)


def _growth(model: Model, length: int) -> int:
    """Bytes of the keys of the layer with most full heads before the last growth, for one sequence."""
    shape, layout = model.shape, model.hybrid.layout
    heads = max(sum(layout.full_heads(layer, shape.num_kv_heads)) for layer in range(layout.num_layers))
    return heads * (chunked(length) - GROWTH_TOKENS) * shape.head_dim * VALUE_BYTES
