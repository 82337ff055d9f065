"""The dense-mask reference that every fast path is tested against. Memory is q_len x kv_len: for tests only."""

from __future__ import annotations

import torch

from longgen.attention.full import repeat_kv_heads
from longgen.pattern import SparsePattern


def reference_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    key_positions: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Softmax attention under the pattern's dense mask, in the dtype given (tests give float64).

    Args:
        query: [batch, query heads, q_len, head_dim], at positions query_offset .. query_offset + q_len - 1.
        key: [batch, KV heads, kv_len, head_dim], at ``key_positions``.
        value: like ``key``.
        pattern: who sees whom.
        query_offset: position of the first query.
        head_offset: where the strided blocks of these heads stand.
        key_positions: [kv_len] int64, ascending.
        scale: softmax scale.

    Returns:
        [batch, query heads, q_len, head_dim].
    """
    query_positions = torch.arange(query_offset, query_offset + query.shape[2], device=key_positions.device)
    allowed = pattern.allowed(query_positions[:, None], key_positions[None, :], head_offset).to(query.device)
    key, value = repeat_kv_heads(query, key), repeat_kv_heads(query, value)
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * scale
    weights = torch.softmax(scores.masked_fill(~allowed, float("-inf")), dim=-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, value)
