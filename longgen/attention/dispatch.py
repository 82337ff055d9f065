"""One entry for sparse attention: checks the input, then calls the chosen backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch

from longgen.attention.autocast import in_one_dtype
from longgen.attention.blocked import blocked_attention
from longgen.attention.call import Attend, AttentionCall, PackedDocuments, one_by_one
from longgen.attention.decode import decode_attention, decode_backend
from longgen.attention.flex import flex_attend, why_flex_cannot
from longgen.attention.reference import reference_attention
from longgen.attention.triton_attention import triton_attention
from longgen.attention.triton_launch import evenly_spread, why_unsupported
from longgen.pattern import SparsePattern


class Backend(NamedTuple):
    """One way to compute sparse attention.

    Attributes:
        attend: of query, key, value and call.
        why_unsupported: of query, key and call: why ``attend`` cannot serve them; None if it can.
    """

    attend: Attend
    why_unsupported: Callable[[torch.Tensor, torch.Tensor, AttentionCall], str | None]


def _triton(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
    try:
        evenly_spread(call)
    except ValueError:  # some of a layer's staggered heads: the kernels know only all of them, or one offset
        return one_by_one(_triton)(query, key, value, call)
    return triton_attention(query, key, value, call)[0]


def _why_not_triton(query: torch.Tensor, key: torch.Tensor, call: AttentionCall) -> str | None:
    if call.pruned and torch.is_grad_enabled() and (query.requires_grad or key.requires_grad):
        return "the cache is pruned and gradients are wanted: allowed is one of both"
    return why_unsupported(query, key, call)


def _always_supported(query: torch.Tensor, key: torch.Tensor, call: AttentionCall) -> str | None:
    return None


BACKENDS: dict[str, Backend] = {
    "triton": Backend(_triton, _why_not_triton),
    "flex": Backend(one_by_one(flex_attend), why_flex_cannot),
    "blocked": Backend(one_by_one(blocked_attention), _always_supported),
    "reference": Backend(one_by_one(reference_attention), _always_supported),
}


def choose_backend(query: torch.Tensor, key: torch.Tensor, call: AttentionCall) -> str:
    """The name in `BACKENDS` that "auto" stands for: the kernels on a GPU that they serve, else the blocked path."""
    served = query.device.type == "cuda" and _why_not_triton(query, key, call) is None
    return "triton" if served else "blocked"


@in_one_dtype
def sparse_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    pattern: SparsePattern,
    query_offset: int = 0,
    head_offset: int | Sequence[int] = 0,
    scale: float | None = None,
    packed: PackedDocuments | None = None,
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
        head_offset: where the strided blocks stand (`SparsePattern.head_offsets`): of all heads, or one per KV head.
        scale: softmax scale; head_dim ** -0.5 by default.
        packed: documents that stand in the one row and do not attend across; positions count within each.
        backend: a name in `BACKENDS`, or ``auto`` (`choose_backend`).

    Returns:
        [batch, query heads, q_len, head_dim], dtype of ``query``, or autocast's (`longgen.attention.autocast`);
        differentiable.

    Raises:
        ValueError: unknown backend, shapes or dtypes that do not fit, or what the backend asked for cannot serve.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}: allowed are auto, {', '.join(BACKENDS)}")
    if query.shape[1] % key.shape[1] or key.shape != value.shape or query.shape[0] != key.shape[0]:
        shapes = f"query {list(query.shape)}, key {list(key.shape)}, value {list(value.shape)}"
        raise ValueError(f"shapes do not fit: {shapes}; query heads must be a multiple of KV heads, key like value")
    kv_heads = key.shape[1]
    offsets = (head_offset,) * kv_heads if isinstance(head_offset, int) else tuple(head_offset)
    if len(offsets) != kv_heads:
        raise ValueError(
            f"head_offset has {len(offsets)} entries: allowed are {kv_heads}, one per KV head, or a number"
        )
    pruned = _is_pruned(query.shape[2], key.shape[2], pattern, query_offset, offsets)
    if packed is not None and (query.shape[0] != 1 or query_offset or pruned):
        raise ValueError(
            f"documents are packed, batch is {query.shape[0]} and query_offset {query_offset}: allowed are 1 and 0"
        )
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    call = AttentionCall(pattern, scale, query_offset, offsets, pruned, packed)
    if pruned and query.shape[2] == 1 and backend in ("auto", "triton", "blocked"):  # every key of it is seen
        return decode_attention(query, key, value, scale, backend=decode_backend(backend))
    if backend == "auto":
        backend = choose_backend(query, key, call)
    elif problem := BACKENDS[backend].why_unsupported(query, key, call):
        raise ValueError(f"{backend} attention: {problem}")
    return BACKENDS[backend].attend(query, key, value, call)


def _is_pruned(q_len: int, kv_len: int, pattern: SparsePattern, query_offset: int, offsets: tuple[int, ...]) -> bool:
    """Whether the keys are a pruned cache's rather than all; ValueError if they can be neither."""
    full_length = query_offset + q_len
    if kv_len == full_length:
        return False
    pruned_lengths = {pattern.kept_count(query_offset, offset) + q_len for offset in set(offsets)}
    if pruned_lengths != {kv_len}:
        counts = " and ".join(map(str, sorted(pruned_lengths)))
        raise ValueError(
            f"kv_len is {kv_len}: at query_offset {query_offset} and q_len {q_len} allowed are "
            f"{full_length} (all positions) and {counts} (pruned cache)"
        )
    return True
