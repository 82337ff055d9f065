"""Decoding one token: the query heads of a KV head share its keys, which are split among programs and merged by LSE.

Which keys count is told by a length per row, or by a mask; both are on the device, so that nothing waits for the host.
"""

import triton
import triton.language as tl


@triton.jit
def split_kernel(
    Q,
    K,
    V,
    Lengths,
    Mask,
    Partial,
    Statistics,
    qk_scale,
    kv_len,
    stride_qb,
    stride_qh,
    stride_kb,
    stride_kh,
    stride_kt,
    stride_vb,
    stride_vh,
    stride_vt,
    stride_mb,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_G: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SPLITS: tl.constexpr,
    HAS_LENGTHS: tl.constexpr,
    HAS_MASK: tl.constexpr,
    STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Grid (SPLITS, KV_HEADS, batch). Q [batch, heads, HEAD_DIM]; K, V [batch, KV_HEADS, kv_len, HEAD_DIM].

    Partial, float32 [batch, KV_HEADS, SPLITS, BLOCK_G, BLOCK_D], is the softmax-weighted sum of each split before
    division; Statistics [batch, KV_HEADS, SPLITS, 2, BLOCK_G] its maximum (base 2) and its sum of weights.
    """
    split, kv_head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    row = tl.program_id(2).to(tl.int64)
    length = kv_len
    if HAS_LENGTHS:
        length = tl.minimum(tl.load(Lengths + row).to(tl.int32), kv_len)
    K += row * stride_kb + kv_head * stride_kh
    V += row * stride_vb + kv_head * stride_vh
    g = tl.arange(0, BLOCK_G)
    d = tl.arange(0, BLOCK_D)
    n = tl.arange(0, BLOCK_N)
    here = d < HEAD_DIM
    query_at = row * stride_qb + (kv_head * GROUP + g)[:, None] * stride_qh + d[None, :]
    query = tl.load(Q + query_at, mask=(g < GROUP)[:, None] & here[None, :], other=0.0)
    maximum = tl.full([BLOCK_G], -1.0e30, tl.float32)
    total = tl.zeros([BLOCK_G], tl.float32)
    accumulator = tl.zeros([BLOCK_G, BLOCK_D], tl.float32)
    tiles = (length + BLOCK_N - 1) // BLOCK_N
    each = (tiles + SPLITS - 1) // SPLITS
    for tile in tl.range(split * each, tl.minimum(split * each + each, tiles), num_stages=STAGES):
        columns = tile * BLOCK_N + n
        valid = columns < length
        if HAS_MASK:
            valid = valid & (tl.load(Mask + row * stride_mb + columns, mask=valid, other=0) != 0)
        at = columns.to(tl.int64)
        key = tl.load(K + d[:, None] + at[None, :] * stride_kt, mask=here[:, None] & valid[None, :], other=0.0)
        value = tl.load(V + at[:, None] * stride_vt + d[None, :], mask=valid[:, None] & here[None, :], other=0.0)
        scores = tl.dot(query, key, input_precision=PRECISION) * qk_scale
        scores = tl.where(valid[None, :], scores, -1.0e30)
        larger = tl.maximum(maximum, tl.max(scores, 1))
        weights = tl.where(valid[None, :], tl.exp2(scores - larger[:, None]), 0.0)
        rescale = tl.exp2(maximum - larger)
        total = total * rescale + tl.sum(weights, 1)
        accumulator = accumulator * rescale[:, None]
        accumulator = tl.dot(weights.to(value.dtype), value, accumulator, input_precision=PRECISION)
        maximum = larger
    place = (row * KV_HEADS + kv_head) * SPLITS + split
    tl.store(Statistics + place * 2 * BLOCK_G + g, maximum)
    tl.store(Statistics + place * 2 * BLOCK_G + BLOCK_G + g, total)
    tl.store(Partial + place * BLOCK_G * BLOCK_D + g[:, None] * BLOCK_D + d[None, :], accumulator)


@triton.jit
def merge_kernel(
    Partial,
    Statistics,
    O,
    stride_ob,
    stride_oh,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_G: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SPLITS: tl.constexpr,
):
    """Grid (KV_HEADS * GROUP, batch): merge a head's splits. SPLITS is a power of two."""
    head, row = tl.program_id(0), tl.program_id(1).to(tl.int64)
    kv_head, member = head // GROUP, head % GROUP
    s = tl.arange(0, SPLITS)
    d = tl.arange(0, BLOCK_D)
    place = (row * KV_HEADS + kv_head) * SPLITS + s
    maximum = tl.load(Statistics + place * 2 * BLOCK_G + member)
    total = tl.load(Statistics + place * 2 * BLOCK_G + BLOCK_G + member)
    partial = tl.load(Partial + place[:, None] * BLOCK_G * BLOCK_D + member * BLOCK_D + d[None, :])
    # a split without keys has the lowest maximum and no weight
    weight = tl.exp2(maximum - tl.max(maximum, 0))
    output = tl.sum(partial * weight[:, None], 0) / tl.sum(total * weight, 0)
    tl.store(O + row * stride_ob + head * stride_oh + d, output.to(O.dtype.element_ty), mask=d < HEAD_DIM)
