"""`Hybrid`: layout and pattern together, and what they mean for every KV head of every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from longgen.layout import Layout
from longgen.pattern import SparsePattern, dense_pairs


@dataclass(frozen=True)
class HeadPattern:
    """Which keys the queries of one KV head see: all of the past, or those of a sparse pattern.

    Attributes:
        pattern: the sparse pattern; None is full attention.
        head_offset: where the head's strided blocks stand (`SparsePattern.head_offsets`).
    """

    pattern: SparsePattern | None = None
    head_offset: int = 0

    def kept_positions(self, seen: int) -> np.ndarray:
        """Ascending token positions (int64) below ``seen`` that the KV cache must hold for later queries."""
        return np.arange(seen) if self.pattern is None else self.pattern.kept_positions(seen, self.head_offset)

    def kept_count(self, seen: int) -> int:
        """Number of `kept_positions`."""
        return seen if self.pattern is None else self.pattern.kept_count(seen, self.head_offset)

    def slot(self, position: Any) -> Any:
        """Where a cache of fixed size keeps token(s) ``position`` (`SparsePattern.slot`)."""
        return position if self.pattern is None else self.pattern.slot(position, self.head_offset)

    def slot_count(self, length: int) -> int:
        """Number of slots that ``length`` tokens need."""
        return length if self.pattern is None else self.pattern.slot_count(length, self.head_offset)

    def allowed(self, query_position: Any, key_position: Any) -> Any:
        """Whether query token(s) see key token(s), by broadcasting."""
        if self.pattern is None:
            return key_position <= query_position
        return self.pattern.allowed(query_position, key_position, self.head_offset)

    def attended_pairs(self, length: int) -> int:
        """Number of (query token, key token) pairs of one head over a sequence of ``length`` tokens."""
        return dense_pairs(length) if self.pattern is None else self.pattern.attended_pairs(length, self.head_offset)


class HeadGroup(NamedTuple):
    """KV heads of one layer with the same pattern: their indices, ascending; each with its group of query heads."""

    heads: tuple[int, ...]
    head_pattern: HeadPattern


@dataclass(frozen=True)
class Hybrid:
    """What makes a model a hybrid.

    Attributes:
        layout: which layers, or heads, keep full attention.
        pattern: of the others.
    """

    layout: Layout
    pattern: SparsePattern

    def head_groups(self, layer: int, num_kv_heads: int) -> tuple[HeadGroup, ...]:
        """The KV heads of ``layer``, grouped by their patterns, in the order of their first heads.

        One group for a layer that is full or sparse as a whole, unless its heads are staggered.
        """
        flags = self.layout.full_heads(layer, num_kv_heads)
        groups: dict[HeadPattern, list[int]] = {}
        for head, offset in enumerate(self.pattern.head_offsets(num_kv_heads)):
            head_pattern = HeadPattern() if flags[head] else HeadPattern(self.pattern, offset)
            groups.setdefault(head_pattern, []).append(head)
        return tuple(HeadGroup(tuple(heads), head_pattern) for head_pattern, heads in groups.items())
