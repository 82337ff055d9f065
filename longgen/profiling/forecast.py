"""How long a prompt will take on a CPU, from the rates of short pieces: what is begun is to end within its time."""

from __future__ import annotations

import functools

import torch

from longgen.attention import full_attention, sparse_attention
from longgen.profiling.attention.workloads import FULL, PATTERNS
from longgen.profiling.device import Precision, product_flops, timed
from longgen.profiling.stacks import Stack
from longgen.shapes import ModelShape

# The piece of attention whose rate is taken for that of whole prompts: the last queries of so many tokens.
QUERIES, KEYS = 2048, 8192
# Of the rate of a matrix product what a layer reaches besides attention, normalisation and the like included.
LAYER_EFFICIENCY = 0.5


def prefill_seconds(shape: ModelShape, stack: Stack, length: int, batch: int, precision: Precision) -> float:
    """Predicted seconds in which a CPU reads prompts of ``length`` tokens with ``stack``."""
    if not stack.num_layers:
        return 0.0
    flops = {kind: count * batch * layer_flops(shape, kind, length) for kind, count in stack.layers.items() if count}
    everything = stack.model(shape).prefill_flops(length, batch)
    rest = (everything - sum(flops.values())) / (LAYER_EFFICIENCY * product_flops("cpu", precision))
    return rest + sum(work / attention_rate(shape, kind, precision) for kind, work in flops.items())


def layer_flops(shape: ModelShape, kind: str, length: int) -> int:
    """Floating-point operations of the attention of a layer, ``full`` or of a pattern, over ``length`` tokens."""
    return Stack(kind, 1, int(kind == FULL)).model(shape).attention_flops(length)


@functools.cache
def attention_rate(shape: ModelShape, kind: str, precision: Precision) -> float:
    """Floating-point operations per second of a forward pass of a layer's attention, at best of two."""
    dtype = getattr(torch, precision)
    query = torch.randn(1, shape.num_heads, QUERIES, shape.head_dim, dtype=dtype)
    key, value = torch.randn(2, 1, shape.num_kv_heads, KEYS, shape.head_dim, dtype=dtype)

    @torch.no_grad()
    def run() -> None:
        if kind == FULL:
            full_attention(query, key, value)
        else:
            sparse_attention(query, key, value, PATTERNS[kind], query_offset=KEYS - QUERIES)

    seconds = min(timed(run, "cpu").seconds for _ in range(2))
    return (layer_flops(shape, kind, KEYS) - layer_flops(shape, kind, KEYS - QUERIES)) / seconds
