"""`SparsePattern`: the one specification of which keys a query sees in a sparse layer.

Everything that needs to know who sees whom asks this class: the dense reference mask, the blocked attention, the KV
cache's eviction, the planner's counts and the pictures of the pattern.
"""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from longgen.errors import ConfigError

# Python int, numpy array or torch tensor: the rule is written with operators that all of them share.
Index = TypeVar("Index", bound=Any)


@dataclass(frozen=True)
class SparsePattern:
    """A static, block-granular, causal attention pattern (LongGen, arXiv 2410.01485, section 3: the two sparse layers).

    Query block ``i`` sees key block ``j <= i`` if and only if

    * ``j < sink_blocks`` (attention sink: the first tokens are always seen), or
    * ``i - j < local_blocks`` (sliding window, the query's own block included), or
    * ``stride`` is set and ``(j + 1 + head_offset) % stride == 0`` (blockwise strided columns);

    and inside these blocks a token sees no later token. A block that has gone out of sight never comes back, so
    evicting it from the KV cache is exact. The sizes are our choice: the paper does not state them.

    Attributes:
        block_size: tokens per block.
        sink_blocks: leading blocks that every query sees; may be 0.
        local_blocks: blocks of the sliding window, the query's own block included; at least 1.
        stride: every ``stride``-th block is seen by all later queries; 0 for none (sink + window only).
        staggered: with a stride, KV heads see differently offset blocks of it, so that together they cover more. See
            `head_offsets`.

    Raises:
        ConfigError: a size is not a whole number or out of range, or ``staggered`` without a stride.
    """

    block_size: int = 64
    sink_blocks: int = 1
    local_blocks: int = 16
    stride: int = 0
    staggered: bool = False

    def __post_init__(self) -> None:
        for name, minimum in (("block_size", 1), ("sink_blocks", 0), ("local_blocks", 1), ("stride", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ConfigError(f"{name} is {value!r}: allowed is a whole number >= {minimum}")
        if self.stride == 1:
            raise ConfigError("stride is 1: that is full attention; allowed is 0 (no strided blocks) or >= 2")
        if not isinstance(self.staggered, bool):
            raise ConfigError(f"staggered is {self.staggered!r}: allowed are true and false")
        if self.staggered and not self.stride:
            raise ConfigError("staggered is true: allowed is false where stride is 0 (nothing to stagger)")

    # ---------------------------------------------------------------- the rule
    def visible(self, query_block: Index, key_block: Index, head_offset: int = 0) -> Any:
        """Whether query block(s) see key block(s), by broadcasting; block indices as int, numpy or torch integers."""
        seen = (key_block < self.sink_blocks) | (query_block - key_block < self.local_blocks)
        if self.stride:
            seen = seen | ((key_block + 1 + head_offset) % self.stride == 0)
        return seen & (key_block <= query_block)

    def allowed(self, query_position: Index, key_position: Index, head_offset: int = 0) -> Any:
        """Whether query token(s) see key token(s), by broadcasting; usable as the body of a FlexAttention mask."""
        blocks = self.visible(query_position // self.block_size, key_position // self.block_size, head_offset)
        return blocks & (key_position <= query_position)

    # ---------------------------------------------------------------- what follows from it
    def visible_blocks(self, query_block: int, head_offset: int = 0) -> np.ndarray:
        """Ascending indices (int64) of the key blocks that ``query_block`` sees."""
        blocks = np.arange(query_block + 1)
        seen: npt.NDArray[np.bool_] = self.visible(query_block, blocks, head_offset)
        return blocks[seen]

    def kept_positions(self, seen: int, head_offset: int = 0) -> np.ndarray:
        """Ascending token positions (int64) below ``seen`` that some query at or after ``seen`` can still see.

        This is what a sparse layer's KV cache must hold once ``seen`` tokens went through it. Since visibility only
        shrinks with time, it is what the query at position ``seen`` itself sees of the past.
        """
        return _kept_positions(self, seen, head_offset)

    def kept_count(self, seen: int, head_offset: int = 0) -> int:
        """How many tokens a sparse layer's KV cache holds once ``seen`` tokens went through it."""
        own, window = seen // self.block_size, self.local_blocks - 1
        blocks = min(own, window) + self._lasting_before(max(0, own - window), head_offset)
        return int(blocks * self.block_size + seen % self.block_size)

    def head_offsets(self, num_kv_heads: int) -> tuple[int, ...]:
        """The ``head_offset`` of every KV head: 0, or if ``staggered`` evenly spread over the stride (our choice).

        With at least ``stride`` KV heads every block of the context is seen by some head, however far back.
        """
        return tuple(head * self.stride // num_kv_heads if self.staggered else 0 for head in range(num_kv_heads))

    # ---------------------------------------------------------------- a cache of fixed size
    def slot(self, position: Index, head_offset: int = 0) -> Any:
        """Where a cache of fixed size keeps token(s) ``position``: window blocks in a ring, lasting blocks after it.

        A slot is taken over only by a token that comes after its owner went out of sight, so that a decode step writes
        one slot and moves nothing. By broadcasting; Python int, numpy or torch integers.
        """
        block, inner = position // self.block_size, position % self.block_size
        lasting = self._lasting(block, head_offset)
        ring = block % self.local_blocks
        rank = self.local_blocks + self._lasting_before(block, head_offset)
        return (ring + lasting * (rank - ring)) * self.block_size + inner

    def slot_count(self, length: int, head_offset: int = 0) -> int:
        """How many slots ``length`` tokens need: the window's blocks, and every block that stays in sight for good."""
        lasting: int = self._lasting_before(-(-length // self.block_size), head_offset)
        return (self.local_blocks + lasting) * self.block_size

    def _lasting(self, block: Index, head_offset: int) -> Any:
        """Whether block(s) stay in sight for good: what a query beyond the window's reach sees."""
        return self.visible(block + self.local_blocks, block, head_offset)

    def _lasting_before(self, block: Index, head_offset: int) -> Any:
        """How many of the blocks before ``block`` are lasting."""
        sinks = block - (block > self.sink_blocks) * (block - self.sink_blocks)
        if not self.stride:
            return sinks
        strided = (block + head_offset) // self.stride - (self.sink_blocks + head_offset) // self.stride
        return sinks + (block > self.sink_blocks) * strided

    def far_blocks(self, length: int, head_offset: int = 0) -> int:
        """How many blocks some query of ``length`` tokens sees although they are out of its window."""
        return int(self._lasting_before(max(0, -(-length // self.block_size) - self.local_blocks), head_offset))

    def attended_pairs(self, length: int, head_offset: int = 0) -> int:
        """Number of (query token, key token) pairs that a sequence of ``length`` tokens attends to (for FLOPs).

        Exact, and in the same time for any length.
        """
        if length < 1:
            return 0
        size = self.block_size
        before_last = -(-length // size) - 1
        rows = length - before_last * size  # of the last block, which may be cut off
        earlier = self._earlier_blocks(before_last, head_offset)
        of_last = self._earlier_blocks(before_last + 1, head_offset) - earlier
        own = before_last * size * (size + 1) // 2 + rows * (rows + 1) // 2
        return (earlier * size + of_last * rows) * size + own

    def _earlier_blocks(self, blocks: int, head_offset: int) -> int:
        """How many blocks before their own the first ``blocks`` query blocks see together."""
        near, window = min(blocks, self.local_blocks), self.local_blocks - 1
        return near * (near - 1) // 2 + (blocks - near) * window + self._sum_of_lasting(blocks - near, head_offset)

    def _sum_of_lasting(self, last: int, head_offset: int) -> int:
        """The sum of `_lasting_before` over the blocks 1, 2, ... ``last``."""
        few = min(last, self.sink_blocks)
        total = few * (few + 1) // 2 + (last - few) * self.sink_blocks
        if not self.stride or last == few:
            return total
        first = self.sink_blocks + head_offset
        strided = _sum_of_quotients(last + head_offset, self.stride) - _sum_of_quotients(first, self.stride)
        return total + strided - (last - few) * (first // self.stride)

    def without_stride(self) -> SparsePattern:
        """Sink and window alone."""
        return replace(self, stride=0, staggered=False)

    def to_dict(self) -> dict[str, int | bool]:
        """The pattern as plain values, for a model's config.json."""
        return asdict(self)


@functools.lru_cache(maxsize=256)
def _kept_positions(pattern: SparsePattern, seen: int, head_offset: int) -> np.ndarray:
    # cached: at every decoded token all sparse layers ask the same
    blocks = pattern.visible_blocks(seen // pattern.block_size, head_offset)
    positions = (blocks[:, None] * pattern.block_size + np.arange(pattern.block_size)).ravel()
    positions = positions[positions < seen]
    positions.flags.writeable = False
    return positions


def _sum_of_quotients(last: int, divisor: int) -> int:
    """The sum of ``i // divisor`` over i = 0, 1, ... ``last``."""
    quotient, rest = divmod(last, divisor)
    return divisor * quotient * (quotient - 1) // 2 + quotient * (rest + 1)


def dense_pairs(length: int) -> int:
    """Number of (query, key) pairs of full causal attention over ``length`` tokens."""
    return length * (length + 1) // 2
