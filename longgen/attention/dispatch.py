"""One entry for sparse attention: checks the input, then calls the chosen backend."""

from __future__ import annotations

from collections.abc import Callable

import torch

from longgen.attention.blocked import blocked_attention
from longgen.attention.reference import reference_attention
from longgen.attention.triton_kernels import triton_attention, why_unsupported
from longgen.pattern import SparsePattern


def _reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    evicted: bool,
    scale: float,
) -> torch.Tensor:
    new = torch.arange(query_offset, query_offset + query.shape[2])
    past = torch.tensor(pattern.kept_positions(query_offset, head_offset)) if evicted else torch.arange(query_offset)
    return reference_attention(query, key, value, pattern, query_offset, head_offset, torch.cat([past, new]), scale)


def _triton(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    evicted: bool,
    scale: float,
) -> torch.Tensor:
    return triton_attention(query, key, value, pattern, query_offset, head_offset, evicted, scale)[0]


def _automatic(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: SparsePattern,
    query_offset: int,
    head_offset: int,
    evicted: bool,
    scale: float,
) -> torch.Tensor:
    """The kernels on a GPU that they serve, else the blocked path: the same result up to rounding."""
    served = query.device.type == "cuda" and why_unsupported(query, key, pattern) is None
    backend = _triton if served and not (evicted and torch.is_grad_enabled()) else blocked_attention
    return backend(query, key, value, pattern, query_offset, head_offset, evicted, scale)


Backend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, SparsePattern, int, int, bool, float], torch.Tensor]

BACKENDS: dict[str, Backend] = {
    "auto": _automatic,
    "triton": _triton,
    "blocked": blocked_attention,
    "reference": _reference,
}


def sparse_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: SparsePattern,
    query_offset: int = 0,
    head_offset: int = 0,
    scale: float | None = None,
    backend: str = "auto",
) -> torch.Tensor:
    """Causal attention under ``pattern``.

    Args:
        query: [batch, query heads, q_len, head_dim], at positions query_offset .. query_offset + q_len - 1.
        key: [batch, KV heads, kv_len, head_dim]; query heads must be a multiple of KV heads. Either all positions
            from 0 (kv_len = query_offset + q_len), or a pruned cache: the positions `SparsePattern.kept_positions` of
            query_offset, followed by the q_len new ones.
        value: like ``key``.
        pattern: who sees whom.
        query_offset: position of the first query.
        head_offset: where the strided blocks of these heads stand (`SparsePattern.head_offsets`).
        scale: softmax scale; head_dim ** -0.5 by default.
        backend: a name in `BACKENDS`.

    Returns:
        [batch, query heads, q_len, head_dim], dtype of ``query``; differentiable.

    Raises:
        ValueError: unknown backend, shapes that do not fit, or what the backend asked for cannot serve.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}: allowed are {', '.join(BACKENDS)}")
    if query.shape[1] % key.shape[1] or key.shape != value.shape or query.shape[0] != key.shape[0]:
        shapes = f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}"
        raise ValueError(f"shapes do not fit: {shapes}; query heads must be a multiple of KV heads, key like value")
    q_len, kv_len = query.shape[2], key.shape[2]
    evicted = kv_len != query_offset + q_len
    kept = pattern.kept_count(query_offset, head_offset)
    if evicted and kv_len != kept + q_len:
        raise ValueError(
            f"kv_len is {kv_len}: at query_offset {query_offset} and q_len {q_len} allowed are "
            f"{query_offset + q_len} (all positions) and {kept + q_len} (pruned cache)"
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return BACKENDS[backend](query, key, value, pattern, query_offset, head_offset, evicted, scale)
