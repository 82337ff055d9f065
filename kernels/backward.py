"""Backward pass: three kernels, no atomics, the same result every time.

dq goes by tiles of queries as the forward pass does. dk and dv go by tiles of keys and sum over the query heads of
their group. A key that stays in sight for good is seen by all later queries, others by a window of them: the long
columns are split among programs of their own (`far_keys_kernel`), whose partial sums `keys_kernel` adds in a fixed
order.
"""

import triton
import triton.language as tl

from longgen.kernels.pattern import allowed, count_far, far_block, far_rank, lasts, offset_of_head


@triton.jit
def delta_kernel(
    O,
    DO,
    Delta,
    tokens,
    stride_ob,
    stride_oh,
    stride_ot,
    stride_db,
    stride_dh,
    stride_dt,
    HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr,
):
    """Delta [batch, HEADS, tokens] = sum over head_dim of O * DO: what the gradient of the softmax subtracts."""
    m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    head, row = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    d = tl.arange(0, BLOCK_D)
    mask = (m < tokens)[:, None] & (d < HEAD_DIM)[None, :]
    rows = m.to(tl.int64)[:, None]
    output = tl.load(O + row * stride_ob + head * stride_oh + rows * stride_ot + d[None, :], mask=mask, other=0.0)
    grad = tl.load(DO + row * stride_db + head * stride_dh + rows * stride_dt + d[None, :], mask=mask, other=0.0)
    delta = tl.sum(output.to(tl.float32) * grad.to(tl.float32), 1)
    tl.store(Delta + (row * HEADS + head) * tokens + m, delta, mask=m < tokens)


@triton.jit
def query_tile(
    grad,
    query,
    grad_output,
    lse,
    delta,
    K,
    V,
    stride_kt,
    stride_vt,
    position,
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
    """Add what BLOCK_N keys contribute to dq, without the softmax scale. ``lse`` is in base 2."""
    keys = key_position + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    here = (keys < kv_len)[:, None] & (d < HEAD_DIM)[None, :]
    rows = keys.to(tl.int64)[:, None]
    key = tl.load(K + rows * stride_kt + d[None, :], mask=here, other=0.0)
    value = tl.load(V + rows * stride_vt + d[None, :], mask=here, other=0.0)
    scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * qk_scale
    weights = tl.exp2(scores - lse[:, None])
    if MASKED:
        seen = allowed(position[:, None], keys[None, :], offset, PATTERN_BLOCK, SINK_BLOCKS, LOCAL_BLOCKS, STRIDE)
        weights = tl.where(seen, weights, 0.0)
    grad_weights = tl.dot(grad_output, tl.trans(value), input_precision=PRECISION)
    grad_scores = weights * (grad_weights - delta[:, None])
    return tl.dot(grad_scores.to(key.dtype), key, grad, input_precision=PRECISION)


@triton.jit
def queries_kernel(
    Q,
    K,
    V,
    DO,
    DQ,
    LSE,
    Delta,
    CuSeqlens,
    scale,
    qk_scale,
    q_len,
    tokens,
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
    stride_db,
    stride_dh,
    stride_dt,
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
    PACKED: tl.constexpr,
    STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq, laid out like Q; DO is addressed by ``stride_d*``, LSE and Delta are contiguous [batch, HEADS, tokens]."""
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
    K += row * stride_kb + kv_head.to(tl.int64) * stride_kh + first_token * stride_kt
    V += row * stride_vb + kv_head.to(tl.int64) * stride_vh + first_token * stride_vt
    statistics = (row * HEADS + head) * tokens + first_token

    m = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    d = tl.arange(0, BLOCK_D)
    real = m < q_len
    here = real[:, None] & (d < HEAD_DIM)[None, :]
    rows = m.to(tl.int64)[:, None]
    query_at = row * stride_qb + head.to(tl.int64) * stride_qh + (first_token + rows) * stride_qt + d[None, :]
    grad_at = row * stride_db + head.to(tl.int64) * stride_dh + (first_token + rows) * stride_dt + d[None, :]
    query = tl.load(Q + query_at, mask=here, other=0.0)
    grad_output = tl.load(DO + grad_at, mask=here, other=0.0)
    LOG2_E: tl.constexpr = 1.4426950408889634
    lse = tl.load(LSE + statistics + m, mask=real, other=0.0) * LOG2_E
    delta = tl.load(Delta + statistics + m, mask=real, other=0.0)
    position = query_offset + m
    grad = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)

    kv_len = query_offset + q_len
    lowest = (query_offset + tile * BLOCK_M) // PATTERN_BLOCK
    highest = (tl.minimum(query_offset + tile * BLOCK_M + BLOCK_M, kv_len) - 1) // PATTERN_BLOCK
    window = tl.maximum(lowest - LOCAL_BLOCKS + 1, 0)
    interior = tl.minimum(tl.maximum(highest - LOCAL_BLOCKS + 1, 0), lowest)
    sinks, strided = count_far(window, offset, SINK_BLOCKS, STRIDE)
    PARTS: tl.constexpr = PATTERN_BLOCK // BLOCK_N
    for step in tl.range(0, (sinks + strided) * PARTS, num_stages=STAGES):
        block = far_block(step // PARTS, sinks, offset, SINK_BLOCKS, STRIDE)
        grad = query_tile(
            grad, query, grad_output, lse, delta, K, V, stride_kt, stride_vt, position,
            block * PATTERN_BLOCK + step % PARTS * BLOCK_N, offset, kv_len, qk_scale, HEAD_DIM, BLOCK_D, BLOCK_N,
            PATTERN_BLOCK, SINK_BLOCKS, LOCAL_BLOCKS, STRIDE, False, PRECISION,
        )  # fmt: skip
    for step in tl.range(window * PARTS, interior * PARTS, num_stages=STAGES):
        grad = query_tile(
            grad, query, grad_output, lse, delta, K, V, stride_kt, stride_vt, position, step * BLOCK_N, offset,
            kv_len, qk_scale, HEAD_DIM, BLOCK_D, BLOCK_N, PATTERN_BLOCK, SINK_BLOCKS, LOCAL_BLOCKS, STRIDE, True,
            PRECISION,
        )  # fmt: skip
    for step in tl.range(interior * PARTS, lowest * PARTS, num_stages=STAGES):
        grad = query_tile(
            grad, query, grad_output, lse, delta, K, V, stride_kt, stride_vt, position, step * BLOCK_N, offset,
            kv_len, qk_scale, HEAD_DIM, BLOCK_D, BLOCK_N, PATTERN_BLOCK, SINK_BLOCKS, LOCAL_BLOCKS, STRIDE, False,
            PRECISION,
        )  # fmt: skip
    for step in tl.range(lowest * PARTS, (highest + 1) * PARTS, num_stages=STAGES):
        grad = query_tile(
            grad, query, grad_output, lse, delta, K, V, stride_kt, stride_vt, position, step * BLOCK_N, offset,
            kv_len, qk_scale, HEAD_DIM, BLOCK_D, BLOCK_N, PATTERN_BLOCK, SINK_BLOCKS, LOCAL_BLOCKS, STRIDE, True,
            PRECISION,
        )  # fmt: skip
    tl.store(DQ + query_at, (grad * scale).to(DQ.dtype.element_ty), mask=here)


@triton.jit
def key_tile(
    grad_key,
    grad_value,
    key,
    value,
    Q,
    DO,
    LSE,
    Delta,
    stride_qt,
    stride_dt,
    keys,
    m,
    query_offset,
    q_len,
    qk_scale,
    HEAD_DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Add what the queries ``m`` contribute to dk (without the softmax scale) and dv; who sees whom is the caller's."""
    d = tl.arange(0, BLOCK_D)
    real = (m >= 0) & (m < q_len)
    here = real[:, None] & (d < HEAD_DIM)[None, :]
    rows = m.to(tl.int64)[:, None]
    query = tl.load(Q + rows * stride_qt + d[None, :], mask=here, other=0.0)
    grad_output = tl.load(DO + rows * stride_dt + d[None, :], mask=here, other=0.0)
    LOG2_E: tl.constexpr = 1.4426950408889634
    lse = tl.load(LSE + m, mask=real, other=0.0) * LOG2_E
    delta = tl.load(Delta + m, mask=real, other=0.0)
    scores = tl.dot(key, tl.trans(query), input_precision=PRECISION) * qk_scale
    weights = tl.exp2(scores - lse[None, :])
    seen = (keys[:, None] <= (query_offset + m)[None, :]) & real[None, :]
    weights = tl.where(seen, weights, 0.0)
    grad_value = tl.dot(weights.to(grad_output.dtype), grad_output, grad_value, input_precision=PRECISION)
    grad_weights = tl.dot(value, tl.trans(grad_output), input_precision=PRECISION)
    grad_scores = weights * (grad_weights - delta[None, :])
    grad_key = tl.dot(grad_scores.to(query.dtype), query, grad_key, input_precision=PRECISION)
    return grad_key, grad_value


@triton.jit
def far_keys_kernel(
    Q,
    K,
    V,
    DO,
    LSE,
    Delta,
    Partial,
    CuSeqlens,
    qk_scale,
    q_len,
    tokens,
    query_offset,
    base_offset,
    far_tiles,
    splits,
    stride_qb,
    stride_qh,
    stride_qt,
    stride_kb,
    stride_kh,
    stride_kt,
    stride_vb,
    stride_vh,
    stride_vt,
    stride_db,
    stride_dh,
    stride_dt,
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
    PACKED: tl.constexpr,
    STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Partial sums over queries beyond the window, for keys that last.

    Grid (far tiles * splits, KV_HEADS, batch or documents). Partial is contiguous float32
    [batch or documents, KV_HEADS, far tiles, splits, 2, BLOCK_N, BLOCK_D].
    """
    GROUP: tl.constexpr = HEADS // KV_HEADS
    PARTS: tl.constexpr = PATTERN_BLOCK // BLOCK_N
    program = tl.program_id(0)
    tile, split = program // splits, program % splits
    kv_head = tl.program_id(1)
    sequence = tl.program_id(2).to(tl.int64)
    row = sequence
    offset = offset_of_head(kv_head, base_offset, KV_HEADS, STRIDE, STAGGERED)
    first_token = row * 0
    if PACKED:
        first_token = tl.load(CuSeqlens + row).to(tl.int64)
        q_len = (tl.load(CuSeqlens + row + 1).to(tl.int64) - first_token).to(tl.int32)
        row = row * 0
    kv_len = query_offset + q_len
    blocks = (kv_len + PATTERN_BLOCK - 1) // PATTERN_BLOCK
    sinks, strided = count_far(blocks, offset, SINK_BLOCKS, STRIDE)
    if tile >= (sinks + strided) * PARTS:
        return
    block = far_block(tile // PARTS, sinks, offset, SINK_BLOCKS, STRIDE)
    # queries from here on see the block although it is out of their window
    beyond = tl.maximum((block + LOCAL_BLOCKS) * PATTERN_BLOCK, query_offset // BLOCK_M * BLOCK_M)
    if beyond >= kv_len:
        return
    K += row * stride_kb + kv_head.to(tl.int64) * stride_kh + first_token * stride_kt
    V += row * stride_vb + kv_head.to(tl.int64) * stride_vh + first_token * stride_vt
    keys = block * PATTERN_BLOCK + tile % PARTS * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    here = (d < HEAD_DIM)[None, :]
    at = keys.to(tl.int64)[:, None]
    key = tl.load(K + at * stride_kt + d[None, :], mask=here, other=0.0)
    value = tl.load(V + at * stride_vt + d[None, :], mask=here, other=0.0)
    grad_key = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    grad_value = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)

    steps = (kv_len - beyond + BLOCK_M - 1) // BLOCK_M
    each = (steps + splits - 1) // splits
    begin = tl.minimum(split * each, steps)
    count = tl.minimum(begin + each, steps) - begin
    for step in tl.range(0, count * GROUP, num_stages=STAGES):
        head = (kv_head * GROUP + step // count).to(tl.int64)
        m = beyond + (begin + step % count) * BLOCK_M + tl.arange(0, BLOCK_M) - query_offset
        statistics = (row * HEADS + head) * tokens + first_token
        grad_key, grad_value = key_tile(
            grad_key, grad_value, key, value, Q + row * stride_qb + head * stride_qh + first_token * stride_qt,
            DO + row * stride_db + head * stride_dh + first_token * stride_dt, LSE + statistics, Delta + statistics,
            stride_qt, stride_dt, keys, m, query_offset, q_len, qk_scale, HEAD_DIM, BLOCK_D, PRECISION,
        )  # fmt: skip
    place = ((sequence * KV_HEADS + kv_head) * far_tiles + tile) * splits + split
    n = tl.arange(0, BLOCK_N)
    place = place * (2 * BLOCK_N * BLOCK_D) + n[:, None] * BLOCK_D + d[None, :]
    tl.store(Partial + place, grad_key)
    tl.store(Partial + place + BLOCK_N * BLOCK_D, grad_value)


@triton.jit
def keys_kernel(
    Q,
    K,
    V,
    DO,
    DK,
    DV,
    LSE,
    Delta,
    Partial,
    CuSeqlens,
    scale,
    qk_scale,
    q_len,
    tokens,
    query_offset,
    base_offset,
    far_tiles,
    splits,
    stride_qb,
    stride_qh,
    stride_qt,
    stride_kb,
    stride_kh,
    stride_kt,
    stride_vb,
    stride_vh,
    stride_vt,
    stride_db,
    stride_dh,
    stride_dt,
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
    PACKED: tl.constexpr,
    STAGES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk and dv, laid out like K and V: the window's queries, then the partial sums of those beyond."""
    GROUP: tl.constexpr = HEADS // KV_HEADS
    PARTS: tl.constexpr = PATTERN_BLOCK // BLOCK_N
    tile = tl.program_id(0)
    kv_head = tl.program_id(1)
    sequence = tl.program_id(2).to(tl.int64)
    row = sequence
    offset = offset_of_head(kv_head, base_offset, KV_HEADS, STRIDE, STAGGERED)
    first_token = row * 0
    if PACKED:
        first_token = tl.load(CuSeqlens + row).to(tl.int64)
        q_len = (tl.load(CuSeqlens + row + 1).to(tl.int64) - first_token).to(tl.int32)
        row = row * 0
    kv_len = query_offset + q_len
    if tile * BLOCK_N >= kv_len:
        return
    block = tile // PARTS
    keys = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, BLOCK_D)
    here = (keys < kv_len)[:, None] & (d < HEAD_DIM)[None, :]
    at = first_token + keys.to(tl.int64)[:, None]
    key_at = row * stride_kb + kv_head.to(tl.int64) * stride_kh + at * stride_kt + d[None, :]
    value_at = row * stride_vb + kv_head.to(tl.int64) * stride_vh + at * stride_vt + d[None, :]
    key = tl.load(K + key_at, mask=here, other=0.0)
    value = tl.load(V + value_at, mask=here, other=0.0)
    grad_key = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    grad_value = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)

    # queries from the keys on to the end of the window, in tiles aligned to BLOCK_M, which divides PATTERN_BLOCK
    begin = tl.maximum(tile * BLOCK_N, query_offset) // BLOCK_M
    end = (tl.minimum((block + LOCAL_BLOCKS) * PATTERN_BLOCK, kv_len) + BLOCK_M - 1) // BLOCK_M
    count = tl.maximum(end - begin, 0)
    for step in tl.range(0, count * GROUP, num_stages=STAGES):
        head = (kv_head * GROUP + step // count).to(tl.int64)
        m = (begin + step % count) * BLOCK_M + tl.arange(0, BLOCK_M) - query_offset
        statistics = (row * HEADS + head) * tokens + first_token
        grad_key, grad_value = key_tile(
            grad_key, grad_value, key, value, Q + row * stride_qb + head * stride_qh + first_token * stride_qt,
            DO + row * stride_db + head * stride_dh + first_token * stride_dt, LSE + statistics, Delta + statistics,
            stride_qt, stride_dt, keys, m, query_offset, q_len, qk_scale, HEAD_DIM, BLOCK_D, PRECISION,
        )  # fmt: skip

    if lasts(block, offset, SINK_BLOCKS, STRIDE):
        if tl.maximum((block + LOCAL_BLOCKS) * PATTERN_BLOCK, query_offset // BLOCK_M * BLOCK_M) < kv_len:
            far_tile = far_rank(block, offset, SINK_BLOCKS, STRIDE) * PARTS + tile % PARTS
            place = ((sequence * KV_HEADS + kv_head) * far_tiles + far_tile) * splits
            n = tl.arange(0, BLOCK_N)
            for split in tl.range(0, splits):
                partial = (place + split) * (2 * BLOCK_N * BLOCK_D) + n[:, None] * BLOCK_D + d[None, :]
                grad_key += tl.load(Partial + partial)
                grad_value += tl.load(Partial + partial + BLOCK_N * BLOCK_D)
    tl.store(DK + key_at, (grad_key * scale).to(DK.dtype.element_ty), mask=here)
    tl.store(DV + value_at, grad_value.to(DV.dtype.element_ty), mask=here)
