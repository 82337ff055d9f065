"""`AttentionPart`: one call of an attention function, on some rows, heads and queries of a layer's input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from longgen.attention import PackedDocuments, decode_attention, full_attention, sparse_attention
from longgen.attention.autocast import autocasted
from longgen.attention.decode import decode_backend
from longgen.hybrid import HeadGroup, HeadPattern
from longgen.modeling.padding import TokenIndex, token_count


class AttentionPart(NamedTuple):
    """Queries of a layer and the keys they attend to; the parts of a layer cover every real query of every head once.

    Attributes:
        key: [rows, KV heads, kv_len, head_dim], what the queries may attend to.
        value: like ``key``.
        head_pattern: what these heads see.
        query_offset: position of the first query; unused with ``lengths`` or a ``mask``.
        heads: the KV heads, ascending; None for all.
        rows: of the batch.
        queries: of the call.
        lengths: [rows] integers: how many of the keys a single query sees.
        mask: [rows, kv_len] booleans: which of them, for keys that stand in slots rather than in order.
        head_offsets: one per KV head, where these heads are staggered; None for that of ``head_pattern``.
    """

    key: torch.Tensor
    value: torch.Tensor
    head_pattern: HeadPattern
    query_offset: int = 0
    heads: tuple[int, ...] | None = None
    rows: slice = slice(None)
    queries: TokenIndex = slice(None)
    lengths: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    head_offsets: tuple[int, ...] | None = None


def select_heads(states: torch.Tensor, heads: tuple[int, ...] | None, group_size: int = 1) -> torch.Tensor:
    """Heads of [batch, heads, length, head_dim]: a view where they are adjacent, else a copy.

    Args:
        states: keys or values; or queries, with ``group_size`` heads to every KV head.
        heads: KV heads; None for all.
        group_size: heads of ``states`` per KV head.
    """
    return states[:, _index(heads, group_size)]


def _index(heads: tuple[int, ...] | None, group_size: int) -> slice | list[int]:
    if heads is None:
        return slice(None)
    if heads[-1] - heads[0] + 1 == len(heads):
        return slice(heads[0] * group_size, (heads[-1] + 1) * group_size)
    return [head * group_size + member for head in heads for member in range(group_size)]


def parts_of_tokens(
    key: torch.Tensor,
    value: torch.Tensor,
    groups: Sequence[HeadGroup],
    q_len: int,
    rows: Sequence[TokenIndex] | None = None,
    seen_rows: Sequence[TokenIndex] | None = None,
) -> list[AttentionPart]:
    """The parts of a layer whose keys are all tokens so far, in order: no cache, or one that evicts nothing.

    Args:
        key: [batch, KV heads, kv_len, head_dim].
        value: like ``key``.
        groups: the layer's heads.
        q_len: queries; the last of the kv_len tokens.
        rows: for every row of a padded batch its real tokens among the queries.
        seen_rows: the same among all kv_len tokens; where q_len = kv_len they are ``rows``.
    """
    offset = key.shape[2] - q_len
    staggered = len(groups) > 1 and len({head_pattern.pattern for _, head_pattern in groups}) == 1
    if rows is None and staggered:  # the kernels know staggered heads: one call for all
        offsets = {head: head_pattern.head_offset for heads, head_pattern in groups for head in heads}
        return [
            AttentionPart(
                key,
                value,
                groups[0].head_pattern,
                offset,
                head_offsets=tuple(offsets[head] for head in sorted(offsets)),
            )
        ]
    whole = len(groups) == 1
    by_group = [
        (select_heads(key, heads), select_heads(value, heads), head_pattern, None if whole else heads)
        for heads, head_pattern in groups
    ]
    if rows is None:
        return [
            AttentionPart(keys, values, head_pattern, offset, heads) for keys, values, head_pattern, heads in by_group
        ]
    return [
        AttentionPart(
            keys[row : row + 1, :, seen],
            values[row : row + 1, :, seen],
            head_pattern,
            token_count(seen) - token_count(new),
            heads,
            slice(row, row + 1),
            new,
        )
        for keys, values, head_pattern, heads in by_group
        for row, (new, seen) in enumerate(zip(rows, seen_rows or rows, strict=True))
        if token_count(new)
    ]


def in_one_row(states: torch.Tensor) -> torch.Tensor:
    """[batch, heads, length, head_dim] as [1, heads, batch * length, head_dim]: packed documents stand in one row."""
    return states.transpose(0, 1).flatten(1, 2)[None]


def in_rows(states: torch.Tensor, rows: int) -> torch.Tensor:
    """The inverse of `in_one_row`, for a batch of ``rows``."""
    return states[0].unflatten(1, (rows, -1)).transpose(0, 1)


@dataclass(frozen=True)
class Kernels:
    """Which code computes attention.

    Attributes:
        sparse: of sparse heads, ``auto`` or a name in `longgen.attention.BACKENDS`.
        full: of full heads, ``auto`` or a name in `longgen.attention.FULL_KERNELS`.
    """

    sparse: str = "auto"
    full: str = "auto"


def attend(
    query: torch.Tensor,
    parts: Sequence[AttentionPart],
    num_kv_heads: int,
    scale: float | None = None,
    kernels: Kernels = Kernels(),
    packed: PackedDocuments | None = None,
) -> torch.Tensor:
    """Attention of all queries, part by part; 0 where a token is padding.

    Args:
        query: [batch, query heads, q_len, head_dim].
        parts: of this layer.
        num_kv_heads: of the layer.
        scale: softmax scale; head_dim ** -0.5 by default.
        kernels: which code computes it.
        packed: documents that stand in the one row.

    Returns:
        [batch, query heads, q_len, head_dim].
    """
    (query,) = autocasted(query)
    if len(parts) == 1 and parts[0].rows == slice(None) == parts[0].queries:
        return _attend(query, parts[0], scale, kernels, packed)
    output = torch.zeros_like(query)
    group_size = query.shape[1] // num_kv_heads
    for part in parts:
        part_query = select_heads(query[part.rows, :, part.queries], part.heads, group_size)
        part_output = _attend(part_query, part, scale, kernels, packed)
        index: Any = _index(part.heads, group_size)
        if isinstance(index, list) and isinstance(part.queries, torch.Tensor):
            index = torch.tensor(index, device=query.device)[:, None]  # all of these heads at all of these tokens
        output[part.rows, index, part.queries] = part_output
    return output


def attend_tokens(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: Sequence[HeadGroup],
    num_kv_heads: int,
    scale: float | None,
    kernels: Kernels,
    rows: Sequence[TokenIndex] | None = None,
    seen_rows: Sequence[TokenIndex] | None = None,
    packed: PackedDocuments | None = None,
) -> torch.Tensor:
    """Attention to keys that are all tokens so far, in order, of rows that may be padded or hold several documents.

    Args:
        query: [batch, query heads, q_len, head_dim].
        key: [batch, KV heads, kv_len, head_dim].
        value: like ``key``.
        groups: as in `parts_of_tokens`, as are ``rows`` and ``seen_rows``.
        num_kv_heads: of the layer.
        scale: softmax scale; None is head_dim ** -0.5.
        kernels: which code computes it.
        rows: padded rows.
        seen_rows: padded rows of a cache.
        packed: the documents of all rows, as if these stood one after another; without padding and cache.

    Returns:
        [batch, query heads, q_len, head_dim].
    """
    batch = query.shape[0]
    fold = packed is not None and batch > 1
    if fold:
        query, key, value = (in_one_row(states) for states in (query, key, value))
    output = attend(
        query,
        parts_of_tokens(key, value, groups, query.shape[2], rows, seen_rows),
        num_kv_heads,
        scale,
        kernels,
        packed,
    )
    return in_rows(output, batch) if fold else output


def _attend(
    query: torch.Tensor, part: AttentionPart, scale: float | None, kernels: Kernels, packed: PackedDocuments | None
) -> torch.Tensor:
    key, value, head_pattern = part.key, part.value, part.head_pattern
    if part.mask is not None or part.lengths is not None:
        kernel = kernels.full if head_pattern.pattern is None else kernels.sparse
        return decode_attention(query, key, value, scale, part.lengths, part.mask, decode_backend(kernel))
    if head_pattern.pattern is None:
        return full_attention(query, key, value, scale, packed, kernels.full)
    offsets = head_pattern.head_offset if part.head_offsets is None else part.head_offsets
    return sparse_attention(
        query, key, value, head_pattern.pattern, part.query_offset, offsets, scale, packed, kernels.sparse
    )
