"""`Piece`: one call of an attention function, on some rows, heads and queries of a layer's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from longgen.attention import full_attention, scaled_dot_product, sparse_attention
from longgen.hybrid import HeadGroup, Sight


class Piece(NamedTuple):
    """Which queries attend to which keys; the pieces of a layer cover every real query of every head once.

    Attributes:
        key: [rows, KV heads, kv_len, head_dim], what the queries may attend to.
        value: like ``key``.
        sight: what these heads see.
        query_offset: position of the first query; unused with a ``mask``.
        heads: the KV heads, ascending; None for all.
        rows: of the batch.
        queries: of the call.
        mask: [rows, 1, 1, kv_len] booleans of a single query, for keys that stand in slots rather than in order.
    """

    key: torch.Tensor
    value: torch.Tensor
    sight: Sight
    query_offset: int = 0
    heads: tuple[int, ...] | None = None
    rows: slice = slice(None)
    queries: slice = slice(None)
    mask: torch.Tensor | None = None


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


def pieces_of(
    key: torch.Tensor, value: torch.Tensor, groups: Sequence[HeadGroup], q_len: int, rows: Sequence[slice] | None = None
) -> list[Piece]:
    """The pieces of a layer whose keys are all tokens so far, in order: no cache, or one that evicts nothing.

    Args:
        key: [batch, KV heads, kv_len, head_dim].
        value: like ``key``.
        groups: the layer's heads.
        q_len: queries; the last of the kv_len tokens.
        rows: for every row of a padded batch its real tokens; only where q_len = kv_len.
    """
    whole = len(groups) == 1
    parts = [
        (select_heads(key, heads), select_heads(value, heads), sight, None if whole else heads)
        for heads, sight in groups
    ]
    if rows is None:
        offset = key.shape[2] - q_len
        return [Piece(keys, values, sight, offset, heads) for keys, values, sight, heads in parts]
    return [
        Piece(keys[row : row + 1, :, new], values[row : row + 1, :, new], sight, 0, heads, slice(row, row + 1), new)
        for keys, values, sight, heads in parts
        for row, new in enumerate(rows)
        if new.start < new.stop
    ]


def attend(
    query: torch.Tensor, pieces: Sequence[Piece], num_kv_heads: int, scale: float | None, backend: str
) -> torch.Tensor:
    """Attention of all queries, piece by piece; 0 where a token is padding.

    Args:
        query: [batch, query heads, q_len, head_dim].
        pieces: of this layer.
        num_kv_heads: of the layer.
        scale: softmax scale; head_dim ** -0.5 by default.
        backend: of sparse attention, a name in `longgen.attention.BACKENDS`.

    Returns:
        [batch, query heads, q_len, head_dim].
    """
    if len(pieces) == 1 and pieces[0].rows == pieces[0].queries == slice(None):
        return _attend(query, pieces[0], scale, backend)
    output = torch.zeros_like(query)
    group_size = query.shape[1] // num_kv_heads
    for piece in pieces:
        part = select_heads(query[piece.rows, :, piece.queries], piece.heads, group_size)
        output[piece.rows, _index(piece.heads, group_size), piece.queries] = _attend(part, piece, scale, backend)
    return output


def _attend(query: torch.Tensor, piece: Piece, scale: float | None, backend: str) -> torch.Tensor:
    key, value, sight = piece.key, piece.value, piece.sight
    if piece.mask is not None:
        return scaled_dot_product(query, key, value, scale, piece.mask)
    if sight.pattern is None:
        return full_attention(query, key, value, scale)
    return sparse_attention(query, key, value, sight.pattern, piece.query_offset, sight.head_offset, scale, backend)
