"""How long a prompt will take on a CPU, from the rates of short pieces: what is begun is to end within its time."""

from __future__ import annotations

import functools

import torch

from longgen.attention import full_attention
from longgen.pattern import dense_pairs
from longgen.planner.costs import prefill_flops
from longgen.profiling.device import Precision, product_flops, timed
from longgen.profiling.stacks import Stack
from longgen.shapes import ModelShape

# The piece of full attention whose rate is taken for that of whole prompts: the last queries of so many tokens.
QUERIES, KEYS = 2048, 8192
# Of the rate of a matrix product what a layer reaches besides full attention, normalisation and the like included.
LAYER_EFFICIENCY = 0.5


def prefill_seconds(shape: ModelShape, stack: Stack, length: int, batch: int, precision: Precision) -> float:
    """Predicted seconds in which a CPU reads prompts of ``length`` tokens with ``stack``."""
    if not stack.num_layers:
        return 0.0
    full = attention_flops(shape, dense_pairs(length)) * stack.full_layers * batch
    rest = prefill_flops(stack.cut(shape), stack.layout, stack.hybrid.pattern, length, batch) - full
    layer_rate = LAYER_EFFICIENCY * product_flops("cpu", precision)
    return full / full_attention_rate(shape, precision) + rest / layer_rate


def attention_flops(shape: ModelShape, pairs: int) -> int:
    """Floating-point operations of a layer's heads on ``pairs`` of a query and a key each."""
    return 4 * shape.num_heads * shape.head_dim * pairs


@functools.cache
def full_attention_rate(shape: ModelShape, precision: Precision) -> float:
    """Floating-point operations per second of a forward pass of a full layer's attention, at best of two."""
    dtype = getattr(torch, precision)
    query = torch.randn(1, shape.num_heads, QUERIES, shape.head_dim, dtype=dtype)
    key, value = torch.randn(2, 1, shape.num_kv_heads, KEYS, shape.head_dim, dtype=dtype)
    with torch.no_grad():
        seconds = min(timed(lambda: full_attention(query, key, value), "cpu").seconds for _ in range(2))
    return attention_flops(shape, QUERIES * KEYS - dense_pairs(QUERIES - 1)) / seconds
