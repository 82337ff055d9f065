"""Sparse attention in plain PyTorch, on any device, with gradients: memory O(length x window), never a dense mask.

The queries are cut into chunks of a few blocks. Each chunk gathers the keys that any of its queries sees and calls
scaled_dot_product_attention once, with a mask only where the chunk's queries differ in what they see. The backward pass
recomputes chunk by chunk.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch

from longgen.attention.full import scaled_dot_product
from longgen.pattern import SparsePattern


class Chunk(NamedTuple):
    """Queries ``rows`` see the keys ``columns`` (int64 indices), restricted by ``mask`` [rows, columns] unless None."""

    rows: slice
    columns: torch.Tensor
    mask: torch.Tensor | None


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # training may take over a plan that evaluation made: its tensors must not be bound to it
def plan_chunks(
    pattern: SparsePattern, query_offset: int, head_offset: int, q_len: int, evicted: bool, device: str
) -> tuple[Chunk, ...]:
    """The chunks of one call; the same for all layers and steps, hence cached.

    Args:
        pattern: who sees whom.
        query_offset: position of the first query.
        head_offset: where the strided blocks of these heads stand.
        q_len: number of queries.
        evicted: whether the keys are a pruned cache (`SparsePattern.kept_positions` of ``query_offset``, then the new
            tokens) rather than all positions from 0.
        device: where to put indices and masks.
    """
    end = query_offset + q_len
    past = pattern.kept_positions(query_offset, head_offset) if evicted else np.arange(query_offset)
    positions = np.concatenate([past, np.arange(query_offset, end)])
    key_blocks = positions // pattern.block_size
    # Wide chunks mean few calls but gather keys that some queries do not see: half a window balances the two.
    width = pattern.block_size * max(1, pattern.local_blocks // 2)
    masks: dict[bytes, torch.Tensor] = {}  # in the steady state of sink + window all chunks share one mask
    chunks = []
    start = query_offset
    while start < end:
        stop = min((start // width + 1) * width, end)
        # What goes out of sight within the chunk was in sight at its start, and what comes into sight is new.
        index = np.flatnonzero((positions < stop) & _seen_from(pattern, start, head_offset, key_blocks))
        allowed = pattern.allowed(np.arange(start, stop)[:, None], positions[index][None, :], head_offset)
        mask = None
        if not allowed.all():
            mask = masks.setdefault(allowed.tobytes(), torch.from_numpy(allowed).to(device))
        chunks.append(Chunk(slice(start - query_offset, stop - query_offset), torch.from_numpy(index).to(device), mask))
        start = stop
    return tuple(chunks)


def _seen_from(pattern: SparsePattern, start: int, head_offset: int, key_blocks: np.ndarray) -> np.ndarray:
    """Key blocks that the query block at ``start`` sees, and those after it."""
    first = start // pattern.block_size
    return pattern.visible(first, key_blocks, head_offset) | (key_blocks > first)


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        chunks: tuple[Chunk, ...],
        scale: float,
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.chunks, ctx.scale = chunks, scale
        output = torch.empty_like(query)
        for rows, index, mask in chunks:
            output[:, :, rows] = scaled_dot_product(
                query[:, :, rows], key[:, :, index], value[:, :, index], scale, mask
            )
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (grad_output,) = grad_outputs
        query, key, value = ctx.saved_tensors
        grad_query = torch.empty_like(query)
        # Many chunks add to the same sink and strided keys: accumulate in at least float32.
        accumulator = torch.promote_types(key.dtype, torch.float32)
        grad_key = torch.zeros_like(key, dtype=accumulator)
        grad_value = torch.zeros_like(value, dtype=accumulator)
        for rows, index, mask in ctx.chunks:
            with torch.enable_grad():
                slices = (query[:, :, rows], key[:, :, index], value[:, :, index])
                parts = [tensor.detach().requires_grad_() for tensor in slices]
                output = scaled_dot_product(parts[0], parts[1], parts[2], ctx.scale, mask)
                grads = torch.autograd.grad(output, parts, grad_output[:, :, rows])
            grad_query[:, :, rows] = grads[0]
            grad_key.index_add_(2, index, grads[1].to(accumulator))
            grad_value.index_add_(2, index, grads[2].to(accumulator))
        return grad_query, grad_key.to(key.dtype), grad_value.to(value.dtype), None, None


def blocked_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    evicted: bool,
    scale: float,
) -> torch.Tensor:
    """Attention under ``pattern``; arguments and result as `longgen.attention.sparse_attention`."""
    if query.shape[2] == 1 and evicted:  # decode on a pruned cache: every key in it is seen
        return scaled_dot_product(query, key, value, scale)
    chunks = plan_chunks(pattern, query_offset, head_offset, query.shape[2], evicted, str(query.device))
    return _BlockedAttention.apply(query, key, value, chunks, scale)
