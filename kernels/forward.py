"""Forward pass: one program per tile of queries and query head; a flash-attention loop over the blocks it sees.

The keys of a tile come in four ranges of blocks: far ones (sinks and strided blocks before every query's window), the
left edge (in the window of some queries), the interior (in the window of all), and the diagonal. Only the edges need
masks.
"""

import triton
import triton.language as tl

from longgen.kernels.pattern import allowed, count_far, far_block, offset_of_head


@triton.jit
def attend_tile(
    accumulator,
    maximum,
    total,
    query,
    K,
    V,
    stride_kt,
    stride_vt,
    column,
    query_position,
    key_position,
    offset,
    kv_len,
    qk_scale,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PATTERN_BLOCK: tl.constexpr,
    SINK_BLOCKS: tl.constexpr,
    LOCAL_BLOCKS: tl.constexpr,
    STRIDE: tl.constexpr,
    MASKED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Online softmax over BLOCK_N keys, at ``column`` in memory and from ``key_position`` on in the sequence."""
    n = tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    keys = (column + n).to(tl.int64)
    here = d < HEAD_DIM
    if MASKED:
        valid = key_position + n < kv_len
        key = tl.load(K + d[:, None] + keys[None, :] * stride_kt, mask=here[:, None] & valid[None, :], other=0.0)
        value = tl.load(V + keys[:, None] * stride_vt + d[None, :], mask=valid[:, None] & here[None, :], other=0.0)
    elif HEAD_DIM == BLOCK_D:
        key = tl.load(K + d[:, None] + keys[None, :] * stride_kt)
        value = tl.load(V + keys[:, None] * stride_vt + d[None, :])
    else:
        key = tl.load(K + d[:, None] + keys[None, :] * stride_kt, mask=here[:, None], other=0.0)
        value = tl.load(V + keys[:, None] * stride_vt + d[None, :], mask=here[None, :], other=0.0)
    scores = tl.dot(query, key, input_precision=PRECISION)
    if MASKED:
        seen = allowed(
            query_position[:, None],
            (key_position + n)[None, :],
            offset,
            PATTERN_BLOCK,
            SINK_BLOCKS,
            LOCAL_BLOCKS,
            STRIDE,
        )
        # A row that sees nothing here adds ones, which its first real score rescales to nothing: every row sees itself.
        scores = tl.where(seen, scores * qk_scale, -1.0e30)
        larger = tl.maximum(maximum, tl.max(scores, 1))
        weights = tl.exp2(scores - larger[:, None])
    else:
        # the scale is positive, so that the maximum can be scaled instead: one multiply-add per score
        larger = tl.maximum(maximum, tl.max(scores, 1) * qk_scale)
        weights = tl.exp2(scores * qk_scale - larger[:, None])
    rescale = tl.exp2(maximum - larger)
    total = total * rescale + tl.sum(weights, 1)
    accumulator = accumulator * rescale[:, None]
    accumulator = tl.dot(weights.to(value.dtype), value, accumulator, input_precision=PRECISION)
    return accumulator, larger, total


@triton.jit
def forward_kernel(
    Q,
    K,
    V,
    O,
    LSE,
    CuSeqlens,
    qk_scale,
    q_len,
    query_offset,
    base_offset,
    stride_qb,
    stride_qh,
    stride_qt,
    stride_kb,
    stride_kh,
    stride_kt,
    stride_vb,
    stride_vh,
    stride_vt,
    stride_ob,
    stride_oh,
    stride_ot,
    stride_lb,
    stride_lh,
    HEADS: tl.constexpr,
    KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    PATTERN_BLOCK: tl.constexpr,
    SINK_BLOCKS: tl.constexpr,
    LOCAL_BLOCKS: tl.constexpr,
    STRIDE: tl.constexpr,
    STAGGERED: tl.constexpr,
    PRUNED: tl.constexpr,
    PACKED: tl.constexpr,
    STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Q, O [batch, HEADS, tokens, HEAD_DIM]; K, V alike with KV_HEADS; LSE [batch, HEADS, tokens] in base e.

    PRUNED: keys are those of a pruned cache, then the new tokens. PACKED: the batch is one row of documents, which
    begin at ``CuSeqlens[document]``, and the last grid axis counts documents instead of rows.
    """
    # the last tiles see the most: begin with them
    tile = tl.num_programs(0) - 1 - tl.program_id(0)
    head = tl.program_id(1)
    row = tl.program_id(2).to(tl.int64)
    kv_head = head // (HEADS // KV_HEADS)
    offset = offset_of_head(kv_head, base_offset, KV_HEADS, STRIDE, STAGGERED)
    first_token = row * 0
    if PACKED:
        first_token = tl.load(CuSeqlens + row).to(tl.int64)
        q_len = (tl.load(CuSeqlens + row + 1).to(tl.int64) - first_token).to(tl.int32)
        row = row * 0
    if tile * BLOCK_M >= q_len:
        return
    Q += row * stride_qb + head.to(tl.int64) * stride_qh + first_token * stride_qt
    K += row * stride_kb + kv_head.to(tl.int64) * stride_kh + first_token * stride_kt
    V += row * stride_vb + kv_head.to(tl.int64) * stride_vh + first_token * stride_vt
    O += row * stride_ob + head.to(tl.int64) * stride_oh + first_token * stride_ot
    LSE += row * stride_lb + head.to(tl.int64) * stride_lh + first_token

    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    real = m < q_len
    query_at = m.to(tl.int64)[:, None] * stride_qt + d[None, :]
    query = tl.load(Q + query_at, mask=real[:, None] & (d < HEAD_DIM)[None, :], other=0.0)
    position = query_offset + m
    maximum = tl.full([BLOCK_M], -1.0e30, tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    accumulator = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)

    kv_len = query_offset + q_len
    lowest = (query_offset + tile * BLOCK_M) // PATTERN_BLOCK
    highest = (tl.minimum(query_offset + tile * BLOCK_M + BLOCK_M, kv_len) - 1) // PATTERN_BLOCK
    window = tl.maximum(lowest - LOCAL_BLOCKS + 1, 0)
    interior = tl.minimum(tl.maximum(highest - LOCAL_BLOCKS + 1, 0), lowest)
    sinks, strided = count_far(window, offset, SINK_BLOCKS, STRIDE)

    # in a pruned cache the far blocks of the first query stand first, and the rest in order behind them
    kept_from = query_offset * 0
    kept_far = query_offset * 0
    if PRUNED:
        kept_from = tl.maximum(query_offset // PATTERN_BLOCK - LOCAL_BLOCKS + 1, 0)
        kept_sinks, kept_strided = count_far(kept_from, offset, SINK_BLOCKS, STRIDE)
        kept_far = kept_sinks + kept_strided
    shift = (kept_far - kept_from) * PATTERN_BLOCK

    PARTS: tl.constexpr = PATTERN_BLOCK // BLOCK_N
    for step in tl.range(0, (sinks + strided) * PARTS, num_stages=STAGES):
        index = step // PARTS
        within = step % PARTS * BLOCK_N
        block = far_block(index, sinks, offset, SINK_BLOCKS, STRIDE)
        column = tl.where(block < kept_from, index * PATTERN_BLOCK, block * PATTERN_BLOCK + shift) + within
        accumulator, maximum, total = attend_tile(
            accumulator, maximum, total, query, K, V, stride_kt, stride_vt, column, position,
            block * PATTERN_BLOCK + within, offset, kv_len, qk_scale, HEAD_DIM, BLOCK_D, BLOCK_N, PATTERN_BLOCK,
            SINK_BLOCKS, LOCAL_BLOCKS, STRIDE, False, PRECISION,
        )  # fmt: skip
    for step in tl.range(window * PARTS, interior * PARTS, num_stages=STAGES):
        accumulator, maximum, total = attend_tile(
            accumulator, maximum, total, query, K, V, stride_kt, stride_vt, step * BLOCK_N + shift, position,
            step * BLOCK_N, offset, kv_len, qk_scale, HEAD_DIM, BLOCK_D, BLOCK_N, PATTERN_BLOCK,
            SINK_BLOCKS, LOCAL_BLOCKS, STRIDE, True, PRECISION,
        )  # fmt: skip
    for step in tl.range(interior * PARTS, lowest * PARTS, num_stages=STAGES):
        accumulator, maximum, total = attend_tile(
            accumulator, maximum, total, query, K, V, stride_kt, stride_vt, step * BLOCK_N + shift, position,
            step * BLOCK_N, offset, kv_len, qk_scale, HEAD_DIM, BLOCK_D, BLOCK_N, PATTERN_BLOCK,
            SINK_BLOCKS, LOCAL_BLOCKS, STRIDE, False, PRECISION,
        )  # fmt: skip
    for step in tl.range(lowest * PARTS, (highest + 1) * PARTS, num_stages=STAGES):
        accumulator, maximum, total = attend_tile(
            accumulator, maximum, total, query, K, V, stride_kt, stride_vt, step * BLOCK_N + shift, position,
            step * BLOCK_N, offset, kv_len, qk_scale, HEAD_DIM, BLOCK_D, BLOCK_N, PATTERN_BLOCK,
            SINK_BLOCKS, LOCAL_BLOCKS, STRIDE, True, PRECISION,
        )  # fmt: skip

    output = accumulator / total[:, None]
    output_at = m.to(tl.int64)[:, None] * stride_ot + d[None, :]
    tl.store(O + output_at, output.to(O.dtype.element_ty), mask=real[:, None] & (d < HEAD_DIM)[None, :])
    LN_2: tl.constexpr = 0.6931471805599453
    tl.store(LSE + m, (maximum + tl.log2(total)) * LN_2, mask=real)
