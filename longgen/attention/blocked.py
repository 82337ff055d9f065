"""Sparse attention in plain PyTorch, on any device, with gradients: memory O(length x window), never a dense mask.

The queries are cut into chunks (`longgen.attention.blocked_plan`). The keys that a chunk sees are slices: near ones,
and far ones (sink and strided blocks); only those at the edges of sight are masked. On a CPU PyTorch's flash attention
computes a chunk. The backward pass goes on as in FlashAttention (Dao et al., arXiv 2205.14135, appendix B.2): from the
logarithms of the softmax's sums the weights are made again, a tile of keys and queries at a time that stays in the
processor's cache.

Scores, weights and gradients are float32 at least. Where the processor multiplies bfloat16 (`computes_in_bfloat16`) the
products of the backward pass round their factors to it, as scaled_dot_product_attention does, and add up in float32;
queries, keys and values in bfloat16 lose nothing by that. Those in float16 would, and are multiplied in float32.
`python -m longgen.profiling.cpu` measures all this against full attention.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from longgen.attention.autocast import outside_autocast
from longgen.attention.blocked_plan import BFLOAT16_ROWS, MOST_ROWS, Chunk, ChunkPlan, plan_chunks
from longgen.attention.call import AttentionCall
from longgen.attention.sdpa import flash_on_cpu
from longgen.hardware import computes_in_bfloat16

# Scores to hold at a time: on a CPU, for each thread, about what its L2 cache holds (2 MiB of float32; half of it and
# twice as much took 5 to 10 % longer), elsewhere what keeps the device busy.
SCORES_ON_CPU, SCORES_ELSEWHERE = 1 << 19, 1 << 22


@contextlib.contextmanager
def _bfloat16_products(enabled: bool) -> Iterator[None]:
    """Let products of float32 matrices on a CPU round their factors, not their sums, to bfloat16, if ``enabled``.

    The setting is the process's: products of float32 that other threads begin meanwhile are rounded too.
    """
    if not enabled:
        yield
        return
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]  # it appears on first access
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def _in_bfloat16(query: torch.Tensor) -> bool:
    return query.dtype == torch.bfloat16 and query.device.type == "cpu" and computes_in_bfloat16()


class _ChunkedStates:
    """Keys or values of some heads, or their gradients, of which every chunk has a part.

    Attributes:
        all: [..., tokens, head_dim].
        far: those of them that the plan calls far: a view if they are adjacent, else a copy.
    """

    def __init__(self, states: torch.Tensor, far: torch.Tensor | slice) -> None:
        self.all = states
        self.far = states[..., far, :]
        self._indices = far

    def of(self, chunk: Chunk) -> torch.Tensor:
        """The chunk's part: [..., near and far tokens, head_dim]."""
        near = self.all[..., chunk.near, :]
        return torch.cat([near, self.far[..., : chunk.far, :]], dim=-2) if chunk.far else near

    def total(self) -> torch.Tensor:
        """All tokens, when the last chunk has been added."""
        return self.all if isinstance(self._indices, slice) else self.all.index_add_(-2, self._indices, self.far)


def _by_kv_head(states: torch.Tensor, kv_heads: int) -> torch.Tensor:
    """Arrange [batch, query heads, q_len, ...] as [batch, KV heads, queries, ...].

    The query heads that share a KV head take turns at each position: chunks of adjacent positions are slices.
    """
    return states.unflatten(1, (kv_heads, -1)).transpose(2, 3).flatten(2, 3)


def _by_query_head(states: torch.Tensor, query_heads: int) -> torch.Tensor:
    """The inverse of `_by_kv_head`."""
    group_size = query_heads // states.shape[1]
    return states.unflatten(2, (-1, group_size)).transpose(2, 3).flatten(1, 2)


def _turns(batch: int, kv_heads: int, at_a_time: int) -> Iterator[tuple[slice, slice]]:
    """Rows of the batch and KV heads to compute together: about ``at_a_time`` heads, of one row unless it has fewer."""
    rows = max(1, at_a_time // kv_heads)
    turns = -(-kv_heads // max(1, at_a_time))
    heads = -(-kv_heads // turns)  # turns of equal size, rather than a small one at the end
    for row in range(0, batch, rows):
        for head in range(0, kv_heads, heads):
            yield slice(row, min(row + rows, batch)), slice(head, min(head + heads, kv_heads))


def _most_scores(device: torch.device) -> int:
    return SCORES_ON_CPU * torch.get_num_threads() if device.type == "cpu" else SCORES_ELSEWHERE


# ---------------------------------------------------------------- forward
def _attend(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention of [batch, heads, queries, head_dim], and the logarithm of each softmax's sum [batch, heads, queries].

    ``mask`` [queries, keys] is added to the scores.
    """
    if queries.device.type == "cpu":
        return flash_on_cpu(queries, keys, values, scale, mask)
    exact = torch.promote_types(queries.dtype, torch.float32)
    scores = (queries.to(exact) @ keys.to(exact).mT).mul_(scale)
    if mask is not None:
        scores += mask
    sums = scores.logsumexp(-1)
    return (scores.sub_(sums[..., None]).exp_() @ values.to(exact)).to(queries.dtype), sums


def _mask(chunk: Chunk, dtype: torch.dtype) -> torch.Tensor | None:
    """What hides from a chunk's queries the keys that they do not see: [queries, keys]; None if they see all."""
    if not chunk.edges:
        return None
    hidden = chunk.edges[0].hidden
    mask = torch.zeros(hidden.shape[1], chunk.keys, dtype=dtype, device=hidden.device)
    for edge in chunk.edges:
        mask[:, edge.keys].masked_fill_(edge.hidden.mT, -torch.inf)
    return mask


def _forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: ChunkPlan, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention, and the logarithms of the softmax's sums, arranged like `_by_kv_head` of ``query``."""
    batch, kv_heads = key.shape[:2]
    queries = _by_kv_head(query, kv_heads)
    outputs = torch.empty_like(queries)
    sums = queries.new_empty(queries.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
    at_a_time = batch * kv_heads
    if query.device.type != "cpu":  # where scores are all there at a time
        at_a_time = max(1, SCORES_ELSEWHERE // max(chunk.scores for chunk in plan.chunks))
    for rows_and_heads in _turns(batch, kv_heads, at_a_time):
        keys, values = (_ChunkedStates(states[rows_and_heads], plan.far) for states in (key, value))
        mask, mask_chunk = None, None
        for chunk in plan.chunks:
            if mask_chunk is None or not chunk.is_masked_like(mask_chunk):  # most are, and masks take time
                mask, mask_chunk = _mask(chunk, query.dtype), chunk
            place = (*rows_and_heads, chunk.rows)
            outputs[place], sums[place] = _attend(queries[place], keys.of(chunk), values.of(chunk), mask, scale)
    return _by_query_head(outputs, query.shape[1]), sums


# ---------------------------------------------------------------- backward
class _TileBuffers:
    """Memory for the weights of some queries and keys and for their gradients; used for one tile after another."""

    def __init__(self) -> None:
        self._buffers: tuple[torch.Tensor, ...] = ()

    def like(self, keys: torch.Tensor, queries: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Two tensors [..., keys, queries], contents undefined."""
        shape = (*keys.shape[:-1], queries.shape[-2])
        if not self._buffers or self._buffers[0].shape != shape:
            self._buffers = (keys.new_empty(shape), keys.new_empty(shape))
        return self._buffers[0], self._buffers[1]


def _add_products(into: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> None:
    """``into += left @ right``; PyTorch's `baddbmm_` goes through the heads one by one where ``into`` is a slice."""
    into += torch.bmm(left, right)


def _gradients(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    sums: torch.Tensor,
    grad_output: torch.Tensor,
    plan: ChunkPlan,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value, in their dtypes."""
    grad_query, grad_key, grad_value = (torch.empty_like(states) for states in (query, key, value))
    exact = torch.promote_types(query.dtype, torch.float32)
    batch, kv_heads = key.shape[:2]
    group_size = query.shape[1] // kv_heads
    most = _most_scores(query.device)
    at_a_time = most // max(chunk.scores for chunk in plan.chunks)
    buffers = _TileBuffers()
    for rows, heads in _turns(batch, kv_heads, at_a_time):
        members = slice(heads.start * group_size, heads.stop * group_size)
        one = (rows.stop - rows.start) * (heads.stop - heads.start) == 1
        # one head is a matrix: PyTorch would copy slices of a batch of one before it multiplies them transposed
        multiply, add_product = (torch.mm, torch.Tensor.addmm_) if one else (torch.bmm, _add_products)

        def together(states: torch.Tensor, one: bool = one) -> torch.Tensor:
            return states[0, 0] if one else states.flatten(0, 1)

        queries, grads, outputs = (
            together(_by_kv_head(states[rows, members].to(exact), heads.stop - heads.start))
            for states in (query, grad_output, output)
        )
        # The gradient of a row of scores is weights * (grad_weights - their weighted mean), and the mean is this:
        means = (grads * outputs).sum(-1)
        negative_sums = -together(sums[rows, heads])
        keys, values = (_ChunkedStates(together(states[rows, heads].to(exact)), plan.far) for states in (key, value))
        grad_queries = torch.zeros_like(queries)
        grad_keys, grad_values = (_ChunkedStates(torch.zeros_like(states.all), plan.far) for states in (keys, values))
        for chunk in plan.chunks:
            own_queries, own_grads, into_queries = (x[..., chunk.rows, :] for x in (queries, grads, grad_queries))
            own_means, own_negative_sums = (x[..., None, chunk.rows] for x in (means, negative_sums))
            for tile in chunk.tiles(most):
                own_keys, own_values, into_keys, into_values = (
                    (states.far if tile.is_far else states.all)[..., tile.keys, :]
                    for states in (keys, values, grad_keys, grad_values)
                )
                weights, grad_weights = buffers.like(own_keys, own_queries)
                multiply(own_keys, own_queries.mT, out=weights)
                torch.add(own_negative_sums, weights, alpha=scale, out=weights).exp_()
                for among, hidden in tile.edges:
                    weights[..., among, :].masked_fill_(hidden, 0)
                add_product(into_values, weights, own_grads)
                multiply(own_values, own_grads.mT, out=grad_weights)
                grad_weights.sub_(own_means).mul_(weights)
                add_product(into_keys, grad_weights, own_queries)
                add_product(into_queries, grad_weights.mT, own_keys)
        own = grad_query[rows, members]
        by_kv_head = grad_queries.mul_(scale).view(*sums[rows, heads].shape, -1)
        own.copy_(_by_query_head(by_kv_head, own.shape[1]))
        for states, total in ((grad_key, grad_keys.total().mul_(scale)), (grad_value, grad_values.total())):
            states[rows, heads] = total.view(states[rows, heads].shape)
    return grad_query, grad_key, grad_value


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: ChunkPlan, scale: float
    ) -> torch.Tensor:
        output, sums = _forward(query, key, value, plan, scale)
        ctx.save_for_backward(query, key, value, output, sums)
        ctx.plan, ctx.scale = plan, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, output, sums = ctx.saved_tensors
        # autocast: a backward pass may be called inside it
        with outside_autocast(query.device), _bfloat16_products(_in_bfloat16(query)):
            gradients = _gradients(query, key, value, output, sums, grad_outputs[0], ctx.plan, ctx.scale)
        return *gradients, None, None


def blocked_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: AttentionCall) -> torch.Tensor:
    """Attention under the call's pattern, once differentiable.

    Args:
        query: [batch, query heads, q_len, head_dim].
        key: [batch, KV heads, kv_len, head_dim]: all positions from 0, or those of a pruned cache and the new ones.
        value: like ``key``.
        call: the rest; one document per row, and all heads see the same (`longgen.attention.call.one_by_one`).

    Returns:
        [batch, query heads, q_len, head_dim], dtype of ``query``.
    """
    group_size = query.shape[1] // key.shape[1]
    most_rows = BFLOAT16_ROWS if _in_bfloat16(query) else MOST_ROWS
    options = (call.query_offset, call.head_offset, query.shape[2], call.pruned, group_size, most_rows)
    return _BlockedAttention.apply(
        query, key, value, plan_chunks(call.pattern, *options, str(query.device)), call.scale
    )
