"""The pattern through PyTorch's FlexAttention: a second implementation by others, to compare with."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from longgen.attention.call import AttentionCall
from longgen.pattern import SparsePattern

if TYPE_CHECKING:  # it brings PyTorch's compiler along, which takes seconds: imported only where it is used
    from torch.nn.attention.flex_attention import BlockMask

MASK_BLOCK = 128  # tokens per side of the blocks of FlexAttention's mask: its default


def why_flex_cannot(query: torch.Tensor, key: torch.Tensor, call: AttentionCall) -> str | None:
    """Why FlexAttention cannot serve this call; None if it can."""
    if call.pruned:
        return "the cache is pruned: allowed are all keys from position 0"
    if query.device.type == "cpu" and torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        return "device is cpu and gradients are wanted: FlexAttention has no backward pass there"
    if query.device.type == "cuda" and query.shape[-1] < 16:
        return f"head_dim is {query.shape[-1]}: allowed is at least 16"
    return None


def flex_attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    call: AttentionCall,
    mask_block: int = MASK_BLOCK,
    compiled: bool | None = None,
) -> torch.Tensor:
    """Attention under the call's pattern; one document per row, and all heads see the same.

    Args:
        query: [batch, query heads, q_len, head_dim].
        key: [batch, KV heads, kv_len, head_dim], all positions from 0.
        value: like ``key``.
        call: the rest.
        mask_block: tokens per side of the mask's blocks; a multiple of the tiles that FlexAttention chooses.
        compiled: whether it is compiled to a fused kernel rather than spells out all scores; None: on a GPU.

    Returns:
        [batch, query heads, q_len, head_dim], dtype of ``query``.
    """
    from torch.nn.attention.flex_attention import flex_attention

    mask = block_mask(call.pattern, call.head_offset, call.query_offset, query.shape[2], mask_block, str(query.device))
    compiled = query.device.type == "cuda" if compiled is None else compiled
    attend: Any = _compiled() if compiled else flex_attention
    grouped = query.shape[1] != key.shape[1]
    return attend(query, key, value, block_mask=mask, scale=call.scale, enable_gqa=grouped)


@functools.cache
def _compiled() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=False)


@functools.lru_cache(maxsize=8)
def block_mask(
    pattern: SparsePattern, head_offset: int, query_offset: int, q_len: int, mask_block: int, device: str
) -> BlockMask:
    """The pattern as FlexAttention's block mask.

    Made from the pattern's blocks where those fit into the mask's, so that even a million tokens need no mask of them.

    Args:
        pattern: who sees whom.
        head_offset: where the strided blocks of these heads stand.
        query_offset: position of the first query.
        q_len: number of queries; keys are those from 0 to the last query.
        mask_block: tokens per side of the mask's blocks.
        device: where to put it.
    """
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask

    def allowed(batch: Any, head: Any, query: Any, key: Any) -> Any:
        return pattern.allowed(query + query_offset, key, head_offset)

    kv_len, size = query_offset + q_len, pattern.block_size
    if mask_block % size or query_offset % size:
        return create_block_mask(allowed, None, None, q_len, kv_len, device=device, BLOCK_SIZE=mask_block)
    query = query_offset // size + torch.arange(-(-q_len // size), device=device)[:, None]
    key = torch.arange(-(-kv_len // size), device=device)[None, :]
    visible = pattern.visible(query, key, head_offset)
    some = _pooled(visible, mask_block // size).any((1, 3))
    # a block is seen as a whole if its last token is by the first query: a block sees itself but in part
    first_sees_last = pattern.allowed(query * size, key * size + size - 1, head_offset)
    whole = _pooled(first_sees_last, mask_block // size).all((1, 3))
    return BlockMask.from_kv_blocks(
        *_ordered(some & ~whole), *_ordered(whole), mask_block, allowed, seq_lengths=(q_len, kv_len)
    )


def _pooled(blocks: torch.Tensor, size: int) -> torch.Tensor:
    """[rows, columns] as [rows / size, size, columns / size, size]; False where it is filled up."""
    rows, columns = blocks.shape
    filled = F.pad(blocks, (0, -columns % size, 0, -rows % size))
    return filled.unflatten(1, (-1, size)).unflatten(0, (-1, size))


def _ordered(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How many of every row of [rows, columns] are set, and the indices of these before those of the others."""
    indices = blocks.to(torch.int8).argsort(dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32)[None, None], indices.to(torch.int32)[None, None]
