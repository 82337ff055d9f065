"""The rule of `longgen.pattern.SparsePattern` as compile-time arithmetic: no index tables, any length.

Block indices are in units of the pattern's blocks (PATTERN_BLOCK tokens). ``offset`` is the head's, as in the pattern.
"""

import triton
import triton.language as tl


@triton.jit
def offset_of_head(kv_head, base, KV_HEADS: tl.constexpr, STRIDE: tl.constexpr, STAGGERED: tl.constexpr):
    """Where the strided blocks of a KV head stand: ``base``, and `SparsePattern.head_offsets` if STAGGERED."""
    if STAGGERED:
        return base + kv_head * STRIDE // KV_HEADS
    return base


@triton.jit
def count_far(below, offset, SINK_BLOCKS: tl.constexpr, STRIDE: tl.constexpr):
    """How many sink blocks, and how many strided ones after them, come before block ``below``."""
    sinks = tl.minimum(below, SINK_BLOCKS)
    if STRIDE == 0:
        return sinks, sinks * 0
    strided = (below + offset) // STRIDE - (SINK_BLOCKS + offset) // STRIDE
    return sinks, tl.maximum(strided, 0)


@triton.jit
def far_block(index, sinks, offset, SINK_BLOCKS: tl.constexpr, STRIDE: tl.constexpr):
    """The block that comes ``index``-th among the far ones: sinks first, then strided blocks, ascending."""
    if STRIDE == 0:
        return index
    strided = ((SINK_BLOCKS + offset) // STRIDE + 1 + index - sinks) * STRIDE - 1 - offset
    return tl.where(index < sinks, index, strided)


@triton.jit
def far_rank(block, offset, SINK_BLOCKS: tl.constexpr, STRIDE: tl.constexpr):
    """The inverse of `far_block`, for a block that stays in sight for good."""
    if STRIDE == 0:
        return block
    strided = SINK_BLOCKS + (block + 1 + offset) // STRIDE - (SINK_BLOCKS + offset) // STRIDE - 1
    return tl.where(block < SINK_BLOCKS, block, strided)


@triton.jit
def lasts(block, offset, SINK_BLOCKS: tl.constexpr, STRIDE: tl.constexpr):
    """Whether a block stays in sight for good."""
    lasting = block < SINK_BLOCKS
    if STRIDE != 0:
        lasting = lasting | ((block + 1 + offset) % STRIDE == 0)
    return lasting


@triton.jit
def allowed(
    query_position,
    key_position,
    offset,
    PATTERN_BLOCK: tl.constexpr,
    SINK_BLOCKS: tl.constexpr,
    LOCAL_BLOCKS: tl.constexpr,
    STRIDE: tl.constexpr,
):
    """`SparsePattern.allowed`, by broadcasting."""
    key_block = key_position // PATTERN_BLOCK
    seen = lasts(key_block, offset, SINK_BLOCKS, STRIDE)
    seen = seen | (query_position // PATTERN_BLOCK - key_block < LOCAL_BLOCKS)
    return seen & (key_position <= query_position)
