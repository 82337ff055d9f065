"""Attention by our Triton kernels: grids, and the autograd function."""

from __future__ import annotations

import math
from typing import Any

import torch

from longgen.attention.autocast import check_one_dtype
from longgen.attention.call import AttentionCall
from longgen.attention.tiles import Tiles
from longgen.attention.triton_launch import (
    evenly_spread,
    launch_constants,
    pattern_constants,
    shape_constants,
    tiles_of,
    why_unsupported,
)

# Programs of the long columns' kernel to aim for: a few for each of the 132 SMs of an H100, so that none runs alone at
# the end. A number and not a property of the device, so that sums are split, and rounded, alike everywhere.
FAR_PROGRAMS = 1024


class _Launch:
    """The arguments that the kernels of one call share."""

    def __init__(self, query: torch.Tensor, key: torch.Tensor, call: AttentionCall) -> None:
        packed, q_len = call.packed, query.shape[2]
        # rows of a batch, or documents packed into one row: what the last axis of a grid counts
        self.sequences = query.shape[0] if packed is None else len(packed.cu_seqlens) - 1
        self.cu_seqlens = query if packed is None else packed.cu_seqlens  # a pointer that is not read
        self.max_seqlen = q_len if packed is None else packed.max_seqlen
        self.scale, self.qk_scale = call.scale, call.scale * math.log2(math.e)
        self.head_offset, staggered = evenly_spread(call)
        self.shapes = shape_constants(query, key)
        self.constants = self.shapes | pattern_constants(call.pattern, staggered) | {"PACKED": packed is not None}


def _like_by_token(tensor: torch.Tensor) -> torch.Tensor:
    """Room shaped like [batch, heads, tokens, head_dim], with a token's heads adjacent, as the next layer wants it."""
    batch, heads, tokens, head_dim = tensor.shape
    return tensor.new_empty(batch, tokens, heads, head_dim).transpose(1, 2)


def forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall, tiles: Tiles | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output, like ``query``, and LSE [batch, heads, q_len], float32 in base e; see `triton_attention`."""
    from longgen.kernels.forward import forward_kernel

    shared = _Launch(query, key, call)
    output = _like_by_token(query)
    lse = query.new_empty(query.shape[:3], dtype=torch.float32)
    launch = launch_constants((tiles or tiles_of(query)).forward, call.pattern)
    forward_kernel[(-(-shared.max_seqlen // launch["BLOCK_M"]), query.shape[1], shared.sequences)](
        query,
        key,
        value,
        output,
        lse,
        shared.cu_seqlens,
        shared.qk_scale,
        query.shape[2],
        call.query_offset,
        shared.head_offset,
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        *output.stride()[:3],
        *lse.stride()[:2],
        PRUNED=call.pruned,
        **shared.constants,
        **launch,
    )
    return output, lse


def backward(
    grad_output: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    lse: torch.Tensor,
    call: AttentionCall,
    tiles: Tiles | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value, in their shapes and dtypes."""
    from longgen.kernels.backward import delta_kernel, far_keys_kernel, keys_kernel, queries_kernel

    batch, heads, tokens, head_dim = query.shape
    if grad_output.stride(-1) != 1:
        grad_output = grad_output.contiguous()
    shared, tiles = _Launch(query, key, call), tiles or tiles_of(query)
    delta = torch.empty_like(lse)
    rows = 64
    delta_kernel[(-(-tokens // rows), heads, batch)](
        output,
        grad_output,
        delta,
        tokens,
        *output.stride()[:3],
        *grad_output.stride()[:3],
        HEADS=heads,
        HEAD_DIM=head_dim,
        BLOCK_D=shared.shapes["BLOCK_D"],
        BLOCK_M=rows,
    )
    strides = (*query.stride()[:3], *key.stride()[:3], *value.stride()[:3], *grad_output.stride()[:3])
    lengths = (tokens, tokens, call.query_offset, shared.head_offset)

    grad_query = torch.empty_strided(query.shape, query.stride(), dtype=query.dtype, device=query.device)
    launch = launch_constants(tiles.queries, call.pattern)
    queries_kernel[(-(-shared.max_seqlen // launch["BLOCK_M"]), heads, shared.sequences)](
        query, key, value, grad_output, grad_query, lse, delta, shared.cu_seqlens, shared.scale, shared.qk_scale,
        *lengths, *strides, **shared.constants, **launch,
    )  # fmt: skip

    launch, far_launch = (launch_constants(tile, call.pattern, by_keys=True) for tile in (tiles.keys, tiles.far_keys))
    kv_heads, kv_len = key.shape[1], call.query_offset + shared.max_seqlen
    long_tiles = far_tiles(call, kv_len, launch["BLOCK_N"])
    columns = long_tiles * kv_heads * shared.sequences
    # never more splits than there are tiles of queries to share
    splits = min(max(1, FAR_PROGRAMS // max(1, columns)), -(-kv_len // far_launch["BLOCK_M"]))
    partial = query.new_empty(
        (columns * splits, 2, launch["BLOCK_N"], shared.shapes["BLOCK_D"]) if long_tiles else (1,), dtype=torch.float32
    )
    if long_tiles:
        far_keys_kernel[(long_tiles * splits, kv_heads, shared.sequences)](
            query, key, value, grad_output, lse, delta, partial, shared.cu_seqlens, shared.qk_scale, *lengths,
            long_tiles, splits, *strides, **shared.constants, **far_launch,
        )  # fmt: skip
    grad_key = torch.empty_strided(key.shape, key.stride(), dtype=key.dtype, device=key.device)
    grad_value = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    keys_kernel[(-(-kv_len // launch["BLOCK_N"]), kv_heads, shared.sequences)](
        query, key, value, grad_output, grad_key, grad_value, lse, delta, partial, shared.cu_seqlens, shared.scale,
        shared.qk_scale, *lengths, long_tiles, splits, *strides, **shared.constants, **launch,
    )  # fmt: skip
    return grad_query, grad_key, grad_value


def far_tiles(call: AttentionCall, kv_len: int, keys: int) -> int:
    """Tiles of keys that are seen beyond the window by some query, of the head that has most."""
    pattern = call.pattern
    return max(pattern.far_blocks(kv_len, offset) for offset in call.head_offsets) * pattern.block_size // keys


class _TritonAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall
    ) -> tuple[torch.Tensor, torch.Tensor]:
        output, lse = forward(query, key, value, call)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.call = call
        ctx.mark_non_differentiable(lse)
        return output, lse

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.call.pruned:
            raise ValueError("triton attention: gradients of a pruned cache are not supported")
        query, key, value, output, lse = ctx.saved_tensors
        return *backward(grad_outputs[0], query, key, value, output, lse, ctx.call), None


def triton_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention by our Triton kernels; differentiable, unless the call is on a pruned cache.

    Args:
        query: [batch, query heads, q_len, head_dim], float16, bfloat16 or float32; last dimension contiguous.
        key: [batch, KV heads, kv_len, head_dim]; see `longgen.attention.sparse_attention`.
        value: like ``key``.
        call: the rest; blocks of a multiple of 16 tokens.

    Returns:
        output, like ``query``; and log-sum-exp of the scaled scores, [batch, query heads, q_len] float32, base e.

    Raises:
        ValueError: what the kernels cannot serve.
    """
    check_one_dtype(query=query, key=key, value=value)
    problem = why_unsupported(query, key, call)
    if problem:
        raise ValueError(f"triton attention: {problem}")
    return _TritonAttention.apply(query, key, value, call)
