"""Shifted sparse attention (S2-Attn) of LongLoRA: a cheaper attention to train full layers with.

Chen et al. 2023, arXiv 2309.12307. A row is cut into groups of tokens, and tokens attend causally within their group.
Half of the heads have their groups shifted by half a group, so that what the others keep apart flows through them.
What was trained so is evaluated with full attention.

Groups are documents packed into a row: each half of the heads is one call of full attention with its own borders.
"""

from __future__ import annotations

import functools
from itertools import pairwise

import torch

from longgen.attention import PackedDocuments, full_attention
from longgen.attention.autocast import in_one_dtype
from longgen.errors import ConfigError
from longgen.modeling.attention_parts import in_one_row, in_rows, select_heads
from longgen.pattern import dense_pairs

GROUPS = 4  # groups of a quarter of the row: LongLoRA


def check_groups(groups: int, num_kv_heads: int) -> None:
    """Raise ConfigError unless a row can be cut into ``groups`` and the heads be halved."""
    if type(groups) is not int or groups < 2:
        raise ConfigError(f"groups is {groups!r}: allowed is a whole number >= 2")
    if num_kv_heads < 2:
        raise ConfigError(f"num_key_value_heads is {num_kv_heads}: shifted groups need at least 2, one for each half")


def group_borders(length: int, groups: int, shifted: bool) -> list[int]:
    """Where the groups of a row begin, and its end.

    All are equally long, to a token where ``groups`` does not divide ``length`` (our choice; LongLoRA refuses that).
    Shifted, the row begins and ends with half a group. LongLoRA's code rolls the row, which makes one group of these
    two halves; its causal mask then lets the first tokens of the row see the last: a leak from the future. Here they
    are groups of their own (our choice).

    Args:
        length: tokens of the row.
        groups: how many.
        shifted: by half a group.

    Returns:
        rising token positions from 0 to ``length``.
    """
    cuts = {half * length // (2 * groups) for half in range(int(shifted), 2 * groups, 2)}
    return sorted({0, length} | cuts)


def unshifted_heads(kv_heads: range, num_kv_heads: int) -> int:
    """How many of ``kv_heads``, some of a layer's ``num_kv_heads``, are of its first half, whose groups stay in place.

    Of an odd number of KV heads the shifted half has one more (our choice).
    """
    return sum(head < num_kv_heads // 2 for head in kv_heads)


def attended_pairs(length: int, num_kv_heads: int, groups: int = GROUPS) -> int:
    """Number of (query token, key token) pairs of a layer over a row of ``length`` tokens, summed over its KV heads.

    Raises:
        ConfigError: as `LongGenMixin.use_shifted_groups`.
    """
    check_groups(groups, num_kv_heads)
    unshifted = unshifted_heads(range(num_kv_heads), num_kv_heads)
    total = 0
    for heads, shifted in ((unshifted, False), (num_kv_heads - unshifted, True)):
        borders = group_borders(length, groups, shifted)
        total += heads * sum(dense_pairs(end - start) for start, end in pairwise(borders))
    return total


@in_one_dtype
def shifted_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: int,
    unshifted: int,
    scale: float | None = None,
    packed: PackedDocuments | None = None,
    kernel: str = "auto",
) -> torch.Tensor:
    """Causal attention within groups of tokens, shifted for the later heads.

    Args:
        query: [batch, query heads, length, head_dim].
        key: [batch, KV heads, length, head_dim].
        value: like ``key``.
        groups: how many a row is cut into.
        unshifted: how many of the KV heads, the first ones, have their groups in place (`unshifted_heads`).
        scale: softmax scale; head_dim ** -0.5 by default.
        packed: documents that stand in the one row; groups end where they do.
        kernel: which code computes full attention, as in `longgen.attention.full_attention`.

    Returns:
        [batch, query heads, length, head_dim], dtype of ``query``, or autocast's; differentiable.

    Raises:
        ValueError: as `longgen.attention.full_attention`.
    """
    rows, length, kv_heads = query.shape[0], query.shape[2], key.shape[1]
    group_size = query.shape[1] // kv_heads
    query, key, value = (in_one_row(states) for states in (query, key, value))
    halves = []
    for heads, shifted in ((range(unshifted), False), (range(unshifted, kv_heads), True)):
        if heads:
            documents = _group_documents(length, groups, shifted, rows, packed, query.device)
            half = tuple(heads)
            states = (select_heads(query, half, group_size), select_heads(key, half), select_heads(value, half))
            halves.append(full_attention(*states, scale, documents, kernel))
    return in_rows(torch.cat(halves, dim=1), rows)


# All layers of a step ask the same, and to answer one waits for the device.
@functools.lru_cache(maxsize=8)
def _group_documents(
    length: int, groups: int, shifted: bool, rows: int, packed: PackedDocuments | None, device: torch.device
) -> PackedDocuments:
    """The groups of ``rows`` rows that stand one after another, cut where a packed document ends."""
    borders = {row * length + border for row in range(rows) for border in group_borders(length, groups, shifted)}
    if packed is not None:
        borders.update(packed.cu_seqlens.tolist())
    return PackedDocuments.of_lengths([end - start for start, end in pairwise(sorted(borders))], device)
