"""Decoding by our Triton kernels: one new token per row over a KV cache."""

from __future__ import annotations

import math

import torch

from longgen.attention.autocast import check_one_dtype
from longgen.attention.tiles import Tile
from longgen.attention.triton_launch import SMALLEST_TILE, tiles_of, why_unsupported


def triton_decode(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    lengths: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    splits: int | None = None,
    tile: Tile | None = None,
) -> torch.Tensor:
    """Attention of one new token per row over a KV cache.

    Args:
        query: [batch, query heads, 1, head_dim].
        key: [batch, KV heads, kv_len, head_dim].
        value: like ``key``.
        scale: softmax scale.
        lengths: [batch] integers on the device: how many of the first keys count; None for all.
        mask: [batch, kv_len] booleans on the device: which of them count; None for all. At least one must.
        splits: programs that share a row's keys, a power of two; by default enough to fill a large GPU.
        tile: sizes other than those of the table; not while compiling.

    Returns:
        [batch, query heads, 1, head_dim].

    Raises:
        ValueError: what the kernels cannot serve.
    """
    # a graph that is being captured holds the launch as one opaque operation
    if torch.compiler.is_compiling():
        return _operation(query, key, value, scale, lengths, mask, splits)
    return _launch(query, key, value, scale, lengths, mask, splits, tile)


def _launch(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    lengths: torch.Tensor | None,
    mask: torch.Tensor | None,
    splits: int | None,
    tile: Tile | None = None,
) -> torch.Tensor:
    from longgen.kernels.decode import merge_kernel, split_kernel

    check_one_dtype(query=query, key=key, value=value)
    problem = why_unsupported(query, key)
    if problem:
        raise ValueError(f"triton attention: {problem}")
    batch, heads, q_len, head_dim = query.shape
    if q_len != 1:
        raise ValueError(f"triton attention: q_len is {q_len}: allowed is 1 to decode")
    kv_heads, kv_len = key.shape[1:3]
    tile = tile or tiles_of(query).decode
    group = heads // kv_heads
    block_g = max(SMALLEST_TILE, 1 << (group - 1).bit_length())
    block_d = max(SMALLEST_TILE, 1 << (head_dim - 1).bit_length())
    if splits is None:
        splits = _default_splits(batch * kv_heads, -(-kv_len // tile.keys))
    partial = query.new_empty(batch, kv_heads, splits, block_g, block_d, dtype=torch.float32)
    statistics = query.new_empty(batch, kv_heads, splits, 2, block_g, dtype=torch.float32)
    output = torch.empty_like(query)
    split_kernel[(splits, kv_heads, batch)](
        query,
        key,
        value,
        query if lengths is None else lengths,
        query if mask is None else mask,
        partial,
        statistics,
        scale * math.log2(math.e),
        kv_len,
        *query.stride()[:2],
        *key.stride()[:3],
        *value.stride()[:3],
        0 if mask is None else mask.stride(0),
        KV_HEADS=kv_heads,
        GROUP=group,
        BLOCK_G=block_g,
        HEAD_DIM=head_dim,
        BLOCK_D=block_d,
        BLOCK_N=tile.keys,
        SPLITS=splits,
        HAS_LENGTHS=lengths is not None,
        HAS_MASK=mask is not None,
        STAGES=tile.stages,
        PRECISION="ieee" if query.dtype == torch.float32 else "tf32",
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    merge_kernel[(heads, batch)](
        partial,
        statistics,
        output,
        *output.stride()[:2],
        KV_HEADS=kv_heads,
        GROUP=group,
        BLOCK_G=block_g,
        HEAD_DIM=head_dim,
        BLOCK_D=block_d,
        SPLITS=splits,
    )
    return output


@torch.library.custom_op("longgen::decode", mutates_args=())
def _operation(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    lengths: torch.Tensor | None,
    mask: torch.Tensor | None,
    splits: int | None,
) -> torch.Tensor:
    return _launch(query, key, value, scale, lengths, mask, splits)


_operation.register_fake(lambda query, *rest: torch.empty_like(query))


def _default_splits(columns: int, tiles: int) -> int:
    """A power of two: about four programs to each of 132 SMs, at least four tiles to a program, at most 128."""
    splits = min(-(-528 // columns), max(1, tiles // 4), 128)
    return 1 << (splits.bit_length() - 1)
