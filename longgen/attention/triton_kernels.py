"""Launching the Triton kernels: checks, tile sizes, grids, and the autograd function."""

from __future__ import annotations

import functools
import math
import os
from typing import Any

import torch

from longgen.attention.tiles import Tile, Tiles, tiles_for
from longgen.pattern import SparsePattern

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST_HEAD_DIM = 256
SMALLEST_TILE = 16  # of tl.dot

# Programs of the long columns' kernel to aim for: a few for each of the 132 SMs of an H100, so that none runs alone at
# the end. A number and not a property of the device, so that sums are split, and rounded, alike everywhere.
FAR_PROGRAMS = 1024


def interpreted() -> bool:
    """Whether Triton runs in its interpreter (TRITON_INTERPRET=1), on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def check_supported(query: torch.Tensor, key: torch.Tensor, pattern: SparsePattern | None) -> None:
    """Refuse what the kernels cannot serve.

    Raises:
        ValueError: with what is supported.
    """
    problem = why_unsupported(query, key, pattern)
    if problem:
        raise ValueError(f"triton attention: {problem}")


def why_unsupported(query: torch.Tensor, key: torch.Tensor, pattern: SparsePattern | None) -> str | None:
    """Why the kernels cannot serve these tensors; None if they can."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "triton is not installed: allowed with `pip install longgen[kernels]`, on Linux"
    if query.device.type != "cuda" and not interpreted():
        return f"device is {query.device.type}: allowed is cuda"
    if query.dtype not in DTYPES or key.dtype != query.dtype:
        return f"dtypes are {query.dtype} and {key.dtype}: allowed is one of {', '.join(map(str, DTYPES))} for all"
    if query.shape[-1] > LARGEST_HEAD_DIM:
        return f"head_dim is {query.shape[-1]}: allowed is at most {LARGEST_HEAD_DIM}"
    if pattern is not None and pattern.block_size % SMALLEST_TILE:
        return f"block_size is {pattern.block_size}: allowed is a multiple of {SMALLEST_TILE}"
    if query.stride(-1) != 1 or key.stride(-1) != 1:
        return "the last dimension is not contiguous: allowed is stride 1"
    return None


@functools.cache
def _capability(device: int | None) -> int:
    if device is None:
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def _tiles(query: torch.Tensor) -> Tiles:
    return tiles_for(_capability(query.device.index), query.element_size(), query.shape[-1])


def _dividing(size: int, most: int) -> int:
    """The largest power of two that divides ``size`` and is at most ``most``."""
    return min(size & -size, most)


def _pattern_constants(pattern: SparsePattern, staggered: bool) -> dict[str, Any]:
    return {
        "PATTERN_BLOCK": pattern.block_size,
        "SINK_BLOCKS": pattern.sink_blocks,
        "LOCAL_BLOCKS": pattern.local_blocks,
        "STRIDE": pattern.stride,
        "STAGGERED": staggered,
    }


def _shape_constants(query: torch.Tensor, key: torch.Tensor) -> dict[str, Any]:
    head_dim = query.shape[-1]
    return {
        "HEADS": query.shape[1],
        "KV_HEADS": key.shape[1],
        "HEAD_DIM": head_dim,
        "BLOCK_D": max(SMALLEST_TILE, 1 << (head_dim - 1).bit_length()),
        "PRECISION": "ieee" if query.dtype == torch.float32 else "tf32",
    }


def _launch_constants(tile: Tile, pattern: SparsePattern, by_keys: bool = False) -> dict[str, Any]:
    queries = _dividing(pattern.block_size, tile.queries) if by_keys else tile.queries
    return {
        "BLOCK_M": queries,
        "BLOCK_N": _dividing(pattern.block_size, tile.keys),
        "STAGES": tile.stages,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


class _Sequences:
    """Rows of a batch, or documents packed into one row: what the last axis of a grid counts."""

    def __init__(self, query: torch.Tensor, starts: torch.Tensor | None, longest: int | None) -> None:
        self.packed = starts is not None
        self.starts = query if starts is None else starts  # a pointer that is not read
        self.count = query.shape[0] if starts is None else len(starts) - 1
        self.longest = query.shape[2] if longest is None else longest


def _like_by_token(tensor: torch.Tensor) -> torch.Tensor:
    """Room shaped like [batch, heads, tokens, head_dim], with a token's heads adjacent, as the next layer wants it."""
    batch, heads, tokens, head_dim = tensor.shape
    return tensor.new_empty(batch, tokens, heads, head_dim).transpose(1, 2)


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    pruned: bool,
    scale: float,
    staggered: bool = False,
    starts: torch.Tensor | None = None,
    longest: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Output, like ``query``, and LSE [batch, heads, q_len], float32 in base e; see `triton_attention`."""
    from longgen.kernels.forward import forward_kernel

    sequences = _Sequences(query, starts, longest)
    output = _like_by_token(query)
    lse = query.new_empty(query.shape[:3], dtype=torch.float32)
    launch = _launch_constants(_tiles(query).forward, pattern)
    grid = (-(-sequences.longest // launch["BLOCK_M"]), query.shape[1], sequences.count)
    forward_kernel[grid](
        query,
        key,
        value,
        output,
        lse,
        sequences.starts,
        scale * math.log2(math.e),
        query.shape[2],
        query_offset,
        head_offset,
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        *output.stride()[:3],
        *lse.stride()[:2],
        PRUNED=pruned,
        PACKED=sequences.packed,
        **_shape_constants(query, key),
        **_pattern_constants(pattern, staggered),
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
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    scale: float,
    staggered: bool = False,
    starts: torch.Tensor | None = None,
    longest: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value, in their shapes and dtypes."""
    from longgen.kernels.backward import delta_kernel, far_keys_kernel, keys_kernel, queries_kernel

    batch, heads, tokens, head_dim = query.shape
    if grad_output.stride(-1) != 1:
        grad_output = grad_output.contiguous()
    sequences, tiles = _Sequences(query, starts, longest), _tiles(query)
    shapes, rule = _shape_constants(query, key), _pattern_constants(pattern, staggered)
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
        BLOCK_D=shapes["BLOCK_D"],
        BLOCK_M=rows,
    )
    qk_scale = scale * math.log2(math.e)
    common = shapes | rule | {"PACKED": sequences.packed}
    strides = (*query.stride()[:3], *key.stride()[:3], *value.stride()[:3], *grad_output.stride()[:3])
    lengths = (query.shape[2], tokens, query_offset, head_offset)

    grad_query = torch.empty_strided(query.shape, query.stride(), dtype=query.dtype, device=query.device)
    launch = _launch_constants(tiles.queries, pattern)
    grid = (-(-sequences.longest // launch["BLOCK_M"]), heads, sequences.count)
    queries_kernel[grid](
        query, key, value, grad_output, grad_query, lse, delta, sequences.starts, scale, qk_scale, *lengths, *strides,
        **common, **launch,
    )  # fmt: skip

    launch = _launch_constants(tiles.keys, pattern, by_keys=True)
    kv_len = query_offset + sequences.longest
    far_tiles = _far_tiles(pattern, kv_len, staggered, head_offset, key.shape[1], launch["BLOCK_N"])
    columns = far_tiles * key.shape[1] * sequences.count
    # never more splits than there are tiles of queries to share
    splits = min(max(1, FAR_PROGRAMS // max(1, columns)), -(-kv_len // launch["BLOCK_M"]))
    partial = query.new_empty(
        (columns * splits, 2, launch["BLOCK_N"], shapes["BLOCK_D"]) if far_tiles else (1,), dtype=torch.float32
    )
    if far_tiles:
        far_keys_kernel[(far_tiles * splits, key.shape[1], sequences.count)](
            query, key, value, grad_output, lse, delta, partial, sequences.starts, qk_scale, *lengths, far_tiles,
            splits, *strides, **common, **launch,
        )  # fmt: skip
    grad_key = torch.empty_strided(key.shape, key.stride(), dtype=key.dtype, device=key.device)
    grad_value = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device)
    keys_kernel[(-(-kv_len // launch["BLOCK_N"]), key.shape[1], sequences.count)](
        query, key, value, grad_output, grad_key, grad_value, lse, delta, partial, sequences.starts, scale, qk_scale,
        *lengths, far_tiles, splits, *strides, **common, **launch,
    )  # fmt: skip
    return grad_query, grad_key, grad_value


def _far_tiles(pattern: SparsePattern, kv_len: int, staggered: bool, head_offset: int, kv_heads: int, keys: int) -> int:
    """Tiles of keys that are seen beyond the window by some query, of the head that has most."""
    blocks = -(-kv_len // pattern.block_size)
    offsets = pattern.head_offsets(kv_heads) if staggered else (head_offset,)
    far = max(len(pattern.visible_blocks(blocks + pattern.local_blocks, offset)) for offset in set(offsets))
    return far * pattern.block_size // keys


class _TritonAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *options: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        output, lse = forward(query, key, value, *options)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.options = options
        ctx.mark_non_differentiable(lse)
        return output, lse

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        pattern, query_offset, head_offset, pruned, scale, staggered, starts, longest = ctx.options
        if pruned:
            raise ValueError("triton attention: gradients of a pruned cache are not supported")
        query, key, value, output, lse = ctx.saved_tensors
        rest = (pattern, query_offset, head_offset, scale, staggered, starts, longest)
        grads = backward(grad_outputs[0], query, key, value, output, lse, *rest)
        return *grads, *(None,) * len(ctx.options)


def triton_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    pruned: bool,
    scale: float,
    staggered: bool = False,
    starts: torch.Tensor | None = None,
    longest: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention under ``pattern`` by our Triton kernels; differentiable, unless ``pruned``.

    Args:
        query: [batch, query heads, q_len, head_dim], float16, bfloat16 or float32; last dimension contiguous.
        key: [batch, KV heads, kv_len, head_dim]; see `longgen.attention.sparse_attention`.
        value: like ``key``.
        pattern: who sees whom; blocks of a multiple of 16 tokens.
        query_offset: position of the first query.
        head_offset: of all heads, or with ``staggered`` of the first.
        pruned: whether keys are those of a pruned cache, then the new tokens.
        scale: softmax scale.
        staggered: give every KV head its own of `SparsePattern.head_offsets`.
        starts: [documents + 1] int32 on the device (``cu_seqlens``), for documents packed into the one row of the
            batch, which do not see each other; the last entry is the number of tokens.
        longest: tokens of the longest document; needed with ``starts``.

    Returns:
        output, like ``query``; and log-sum-exp of the scaled scores, [batch, query heads, q_len] float32, base e.

    Raises:
        ValueError: what the kernels cannot serve.
    """
    check_supported(query, key, pattern)
    if starts is not None and (query.shape[0] != 1 or query_offset or pruned or longest is None):
        raise ValueError("triton attention: packed documents need one row, no offset, no pruned cache, and `longest`")
    return _TritonAttention.apply(
        query, key, value, pattern, query_offset, head_offset, pruned, scale, staggered, starts, longest
    )


def decode_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    lengths: torch.Tensor | None = None,
    mask: torch.Tensor | None = None,
    splits: int | None = None,
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

    Returns:
        [batch, query heads, 1, head_dim].

    Raises:
        ValueError: what the kernels cannot serve.
    """
    from longgen.kernels.decode import merge_kernel, split_kernel

    check_supported(query, key, None)
    batch, heads, q_len, head_dim = query.shape
    if q_len != 1:
        raise ValueError(f"triton attention: q_len is {q_len}: allowed is 1 to decode")
    kv_heads, kv_len = key.shape[1:3]
    tile = _tiles(query).decode
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


def _default_splits(columns: int, tiles: int) -> int:
    """A power of two: about four programs to each of 132 SMs, at least four tiles to a program, at most 128."""
    wanted = min(-(-528 // columns), max(1, tiles // 4), 128)
    return 1 << (wanted.bit_length() - 1)
