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
    if on_cpu and query.shape[1] != key.shape[1] and query.shape[2] == 1 and (mask is None or mask.shape[1] == 1):
        # PyTorch would repeat all keys and values for the heads that share them
        grouped = F.scaled_dot_product_attention(share_by_queries(query, key), key, value, attn_mask=mask, scale=scale)
        return grouped.reshape(query.shape)
    if not on_cpu:  # only some of the CUDA kernels know grouped heads; the others would fall back to dense scores
        key, value = repeat_kv_heads(query, key), repeat_kv_heads(query, value)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=is_causal, scale=scale, enable_gqa=on_cpu
    )


def share_by_queries(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """``query`` [batch, query heads, q_len, head_dim] as [batch, KV heads, queries, head_dim], without a copy.

    All queries of the first head that shares a KV head stand before those of the next.
    """
    return query.unflatten(1, (key.shape[1], -1)).flatten(2, 3)


def flash_on_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    mask: torch.Tensor | None = None,
    is_causal: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """PyTorch's flash attention for CPUs, without gradients.

    Args:
        query: [batch, heads, q_len, head_dim].
        key: [batch, heads, kv_len, head_dim].
        value: like ``key``.
        scale: softmax scale.
        mask: [q_len, kv_len] to add to the scores, dtype of ``query``.
        is_causal: whether token i of the queries sees no key after the i-th.

    Returns:
        The output, shape and dtype of ``query``; and the logarithm of each softmax's sum, [batch, heads, q_len].
    """
    mask = None if mask is None else mask[None, None]
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, is_causal=is_causal, attn_mask=mask, scale=scale
    )


def causal_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """Causal attention of the last q_len of kv_len tokens, without a mask of them all."""
    if query.shape[2] == key.shape[2]:
        return scaled_dot_product(query, key, value, scale, is_causal=True)
    needs_gradients = torch.is_grad_enabled() and any(states.requires_grad for states in (query, key, value))
    if query.device.type != "cpu" or needs_gradients:
        return _causal_in_strips(query, key, value, scale)
    # What is past is seen by all, what is new is causal by itself: neither needs a mask, which costs half the time.
    past = key.shape[2] - query.shape[2]
    earlier, earlier_sums = flash_on_cpu(share_by_queries(query, key), key[:, :, :past], value[:, :, :past], scale)
    new_key, new_value = (repeat_kv_heads(query, states[:, :, past:]) for states in (key, value))
    later, later_sums = flash_on_cpu(query, new_key, new_value, scale, is_causal=True)
    share = (earlier_sums.reshape(later_sums.shape) - later_sums).sigmoid_()[..., None]
    exact = share.dtype  # float32 at least
    return later.to(exact).lerp_(earlier.reshape(later.shape).to(exact), share).to(query.dtype)


def _causal_in_strips(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """The same, a strip of queries at a time."""
    q_len, kv_len = query.shape[2], key.shape[2]
    output = torch.empty_like(query)
    for start in range(0, q_len, STRIP):
        rows = slice(start, min(start + STRIP, q_len))
        end = kv_len - q_len + rows.stop  # no query of the strip sees further
        mask = torch.ones(rows.stop - start, end, dtype=torch.bool, device=query.device).tril(end - rows.stop + start)
        output[:, :, rows] = scaled_dot_product(query[:, :, rows], key[:, :, :end], value[:, :, :end], scale, mask)
    return output
