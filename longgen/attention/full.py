"""Full causal attention for the layers that keep it, by PyTorch's scaled_dot_product_attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch.nn.attention.bias import causal_lower_right


def repeat_kv_heads(query: torch.Tensor, key_or_value: torch.Tensor) -> torch.Tensor:
    """``key_or_value`` with its KV heads repeated to the number of query heads (GQA, MQA)."""
    groups = query.shape[1] // key_or_value.shape[1]
    return key_or_value if groups == 1 else key_or_value.repeat_interleave(groups, dim=1)


def full_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None = None
) -> torch.Tensor:
    """Causal attention of the last ``q_len`` tokens to all ``kv_len`` tokens.

    Args:
        query: [batch, query heads, q_len, head_dim].
        key: [batch, KV heads, kv_len, head_dim] with kv_len >= q_len; the queries are the last q_len positions.
        value: like ``key``.
        scale: softmax scale; head_dim ** -0.5 by default.

    Returns:
        [batch, query heads, q_len, head_dim], dtype of ``query``.
    """
    key, value = repeat_kv_heads(query, key), repeat_kv_heads(query, value)
    q_len, kv_len = query.shape[2], key.shape[2]
    if q_len == 1:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    if q_len == kv_len:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scale)
    # Chunked prefill. On CUDA this bias selects flash attention's own lower-right causal mode: no dense mask.
    mask = causal_lower_right(q_len, kv_len)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
