"""What launching any of the Triton kernels needs: what they serve, and their compile-time constants."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from typing import Any

import torch

from longgen.attention.call import AttentionCall
from longgen.attention.tiles import Tile, Tiles, tiles_for
from longgen.pattern import SparsePattern

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
LARGEST_HEAD_DIM = 256
SMALLEST_TILE = 16  # of tl.dot


def interpreted() -> bool:
    """Whether Triton runs in its interpreter (TRITON_INTERPRET=1), on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def why_unsupported(query: torch.Tensor, key: torch.Tensor, call: AttentionCall | None = None) -> str | None:
    """Why the kernels cannot serve these tensors, in this call; None if they can."""
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
    if query.stride(-1) != 1 or key.stride(-1) != 1:
        return "the last dimension is not contiguous: allowed is stride 1"
    if call is not None and not call.scale > 0:
        return f"the softmax scale is {call.scale}: allowed is a positive number"
    if call is not None and call.pattern.block_size % SMALLEST_TILE:
        return f"block_size is {call.pattern.block_size}: allowed is a multiple of {SMALLEST_TILE}"
    return None


def evenly_spread(call: AttentionCall) -> tuple[int, bool]:
    """Head offsets as the kernels compute them: the first, and whether the others are staggered evenly from there.

    Raises:
        ValueError: they are neither the same nor evenly spread.
    """
    first, heads = call.head_offsets[0], len(call.head_offsets)
    relative = tuple(offset - first for offset in call.head_offsets)
    if not any(relative):
        return first, False
    if not call.pattern.stride or relative != replace(call.pattern, staggered=True).head_offsets(heads):
        raise ValueError(f"triton attention: head offsets are {call.head_offsets}: allowed are equal or staggered ones")
    return first, True


@functools.cache
def _capability(device: int | None) -> int:
    if device is None:
        return 0
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def tiles_of(query: torch.Tensor) -> Tiles:
    """The tile sizes for a tensor's device, dtype and head_dim."""
    return tiles_for(_capability(query.device.index), query.element_size(), query.shape[-1])


def _dividing(size: int, most: int) -> int:
    """The largest power of two that divides ``size`` and is at most ``most``."""
    return min(size & -size, most)


def pattern_constants(pattern: SparsePattern, staggered: bool) -> dict[str, Any]:
    """The pattern, for a kernel."""
    return {
        "PATTERN_BLOCK": pattern.block_size,
        "SINK_BLOCKS": pattern.sink_blocks,
        "LOCAL_BLOCKS": pattern.local_blocks,
        "STRIDE": pattern.stride,
        "STAGGERED": staggered,
    }


def shape_constants(query: torch.Tensor, key: torch.Tensor) -> dict[str, Any]:
    """Heads, head_dim and the precision of products, for a kernel."""
    head_dim = query.shape[-1]
    return {
        "HEADS": query.shape[1],
        "KV_HEADS": key.shape[1],
        "HEAD_DIM": head_dim,
        "BLOCK_D": max(SMALLEST_TILE, 1 << (head_dim - 1).bit_length()),
        "PRECISION": "ieee" if query.dtype == torch.float32 else "tf32",
    }


def launch_constants(tile: Tile, pattern: SparsePattern, by_keys: bool = False) -> dict[str, Any]:
    """Tile sizes that suit the pattern's block, for a kernel by queries or by keys."""
    queries = _dividing(pattern.block_size, tile.queries) if by_keys else tile.queries
    return {
        "BLOCK_M": queries,
        "BLOCK_N": _dividing(pattern.block_size, tile.keys),
        "STAGES": tile.stages,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
