"""How much attention keys receive: what SnapKV, PyramidKV, TOVA and H2O choose tokens by."""

from __future__ import annotations

import torch


def scores_at_once(device: torch.device) -> int:
    """How many attention scores are held at once (our choice): memory never grows with the square of the length.

    On a CPU they had better stay within its caches; a GPU wants few, large steps.
    """
    return 2**23 if device.type == "cpu" else 2**26


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
    query_groups = query.unflatten(1, (key.shape[1], -1))
    dtype = torch.promote_types(query.dtype, torch.float32)
    mass = key.new_zeros(key.shape[:3], dtype=dtype)
    positions = torch.arange(kv_len, device=key.device)
    rows = max(1, scores_at_once(query.device) // (batch * heads * kv_len))
    for start in range(kv_len - q_len, kv_len, rows):
        end = min(start + rows, kv_len)
        part = query_groups[:, :, :, start - kv_len + q_len : end - kv_len + q_len]
        scores = torch.einsum("bhgqd,bhkd->bhgqk", part, key[:, :, :end]).to(dtype) * scale
        scores.masked_fill_(positions[:end] > positions[start:end, None], float("-inf"))
        mass[..., :end] += scores.softmax(-1).mean(2).sum(2)
    return mass


def best_and_last(scores: torch.Tensor, best: int, length: int) -> torch.Tensor:
    """Ascending indices of the ``best`` highest scores, of equal ones the first, and of all that have no score.

    Equal scores are common: pooling by the maximum makes neighbours equal.

    Args:
        scores: [batch, KV heads, num_scores], of the first tokens.
        best: how many of them.
        length: tokens, with a score or without.

    Returns:
        [batch, KV heads, best + length - num_scores] int64.
    """
    num_scores = scores.shape[-1]
    order = scores.argsort(dim=-1, descending=True, stable=True)  # topk leaves open which of equal ones it takes
    indices = order[..., :best].sort(dim=-1).values
    last = torch.arange(num_scores, length, device=scores.device).expand(*scores.shape[:2], -1)
    return torch.cat([indices, last], dim=-1)
