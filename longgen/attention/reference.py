"""The dense-mask reference that every fast path is tested against. Memory is q_len x kv_len: for tests only."""

from __future__ import annotations

import torch

from longgen.attention.call import AttentionCall
from longgen.attention.sdpa import repeat_kv_heads


def reference_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall
) -> torch.Tensor:
    """Softmax attention under the pattern's dense mask, in the dtype given (tests give float64).

    Args:
        query: [batch, query heads, q_len, head_dim].
        key: [batch, KV heads, kv_len, head_dim].
        value: like ``key``.
        call: the rest; one document per row, and all heads see the same (`longgen.attention.call.one_by_one`).

    Returns:
        [batch, query heads, q_len, head_dim].
    """
    start, device = call.query_offset, query.device
    new = torch.arange(start, start + query.shape[2], device=device)
    past = torch.arange(start, device=device)
    if call.pruned:
        past = torch.tensor(call.pattern.kept_positions(start, call.head_offset), device=device)
    allowed = call.pattern.allowed(new[:, None], torch.cat([past, new])[None, :], call.head_offset)
    key, value = repeat_kv_heads(query, key), repeat_kv_heads(query, value)
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * call.scale
    weights = torch.softmax(scores.masked_fill(~allowed, float("-inf")), dim=-1)
    return torch.einsum("bhqk,bhkd->bhqd", weights, value)
