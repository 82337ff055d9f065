"""PyTorch's scaled_dot_product_attention for grouped heads, and for queries that are the last of many tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F

# Queries per call where a mask must be spelled out: it takes STRIP x kv_len, whatever the chunk (our choice).
STRIP = 256


def repeat_kv_heads(query: torch.Tensor, key_or_value: torch.Tensor) -> torch.Tensor:
    """``key_or_value`` with its KV heads repeated to the number of query heads (GQA, MQA)."""
    groups = query.shape[1] // key_or_value.shape[1]
    return key_or_value if groups == 1 else key_or_value.repeat_interleave(groups, dim=1)


def scaled_dot_product(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float | None = None,
    mask: torch.Tensor | None = None,
    is_causal: bool = False,
) -> torch.Tensor:
    """PyTorch's attention with fewer KV heads than query heads; shapes as in `longgen.attention.full_attention`.

    ``mask`` is boolean and broadcasts to [batch, query heads, q_len, kv_len]; True lets through.
    """
    on_cpu = query.device.type == "cpu"
    if not on_cpu:  # only some of the CUDA kernels know grouped heads; the others would fall back to dense scores
        key, value = repeat_kv_heads(query, key), repeat_kv_heads(query, value)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=on_cpu
    )


def causal_in_strips(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None) -> torch.Tensor:
    """Causal attention of the last q_len of kv_len tokens, a strip of queries at a time: never a mask of them all."""
    q_len, kv_len = query.shape[2], key.shape[2]
    if q_len == kv_len:
        return scaled_dot_product(query, key, value, scale, is_causal=True)
    output = torch.empty_like(query)
    for start in range(0, q_len, STRIP):
        rows = slice(start, min(start + STRIP, q_len))
        end = kv_len - q_len + rows.stop  # no query of the strip sees further
        mask = torch.ones(rows.stop - start, end, dtype=torch.bool, device=query.device).tril(end - rows.stop + start)
        output[:, :, rows] = scaled_dot_product(query[:, :, rows], key[:, :, :end], value[:, :, :end], scale, mask)
    return output
