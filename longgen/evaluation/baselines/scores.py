"""How much attention keys receive: what SnapKV, PyramidKV, TOVA and H2O choose tokens by."""

from __future__ import annotations

import torch

# Attention scores that are held at once, in numbers (our choice): memory never grows with the square of the length.
SCORES_AT_ONCE = 2**25


def attention_mass(query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
    """Attention weight that every key receives, summed over queries and averaged over the query heads of a KV head.

    The softmax of every query is over all keys up to its own, as in the attention that computes the output. The mean
    over the group is what KVCache-Factory and kvpress do for grouped heads; none of the papers has them.

    Args:
        query: [batch, query heads, q_len, head_dim], of the last q_len tokens.
        key: [batch, KV heads, kv_len, head_dim], in the order of their tokens.
        scale: softmax scale.

    Returns:
        [batch, KV heads, kv_len], float32, or float64 for float64 queries.
    """
    batch, heads, q_len, _ = query.shape
    kv_len = key.shape[2]
    grouped = query.unflatten(1, (key.shape[1], -1))
    dtype = torch.promote_types(query.dtype, torch.float32)
    mass = key.new_zeros(key.shape[:3], dtype=dtype)
    index = torch.arange(kv_len, device=key.device)
    rows = max(1, SCORES_AT_ONCE // (batch * heads * kv_len))
    for start in range(0, q_len, rows):
        part = grouped[:, :, :, start : start + rows]
        own = index[kv_len - q_len + start :][: part.shape[3], None]
        scores = torch.einsum("bhgqd,bhkd->bhgqk", part, key).to(dtype) * scale
        mass += scores.masked_fill_(index > own, float("-inf")).softmax(-1).mean(2).sum(2)
    return mass


def best_and_last(scores: torch.Tensor, best: int, length: int) -> torch.Tensor:
    """Ascending indices of the ``best`` highest scores, and of all that come after those that are scored.

    Args:
        scores: [batch, KV heads, scored], of the first tokens.
        best: how many of them.
        length: tokens, scored or not.

    Returns:
        [batch, KV heads, best + length - scored] int64.
    """
    scored = scores.shape[-1]
    chosen = scores.topk(best, dim=-1).indices.sort(dim=-1).values
    last = torch.arange(scored, length, device=scores.device).expand(*scores.shape[:2], -1)
    return torch.cat([chosen, last], dim=-1)
