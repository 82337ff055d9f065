"""Sparse attention in plain PyTorch, on any device, with gradients: memory O(length x window), never a dense mask.

The queries are cut into chunks (`longgen.attention.blocked_plan`). The keys that a chunk sees are slices: far ones
(sink and strided blocks) and near ones. One matrix product with them makes its scores, of which only those at the edges
of sight are masked. Heads are taken a few at a time, so that the scores of a chunk stay in the processor's cache. The
backward pass makes them again, chunk by chunk, and goes on as in FlashAttention (Dao et al., arXiv 2205.14135, appendix
B.2). All of it is computed in float32 at least. `python -m longgen.profiling.cpu` measures it against full attention.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from longgen.attention.autocast import outside_autocast
from longgen.attention.blocked_plan import Chunk, Plan, plan_chunks
from longgen.attention.call import AttentionCall

# Scores to hold at a time: on a CPU what its caches hold (4 MiB of float32; from 1/4 to 4 MiB the time differs by 5 %),
# elsewhere what keeps the device busy.
SCORES_ON_CPU, SCORES_ELSEWHERE = 1 << 20, 1 << 22


class _Tokens:
    """Keys or values of some heads, or their gradients, of which every chunk has a part.

    Attributes:
        all: [heads, tokens, head_dim].
        far: those of them that the plan calls far: a view if they are adjacent, else a copy.
    """

    def __init__(self, states: torch.Tensor, far: torch.Tensor | slice) -> None:
        self.all = states
        self.far = states[:, far]
        self._indices = far

    def of(self, chunk: Chunk) -> torch.Tensor:
        """The chunk's part: [heads, far and near tokens, head_dim]."""
        near = self.all[:, chunk.near]
        return torch.cat([self.far[:, : chunk.far], near], dim=1) if chunk.far else near

    def add(self, chunk: Chunk, part: torch.Tensor) -> None:
        """Add ``part`` to the chunk's part."""
        self.far[:, : chunk.far] += part[:, : chunk.far]
        self.all[:, chunk.near] += part[:, chunk.far :]

    def total(self) -> torch.Tensor:
        """All tokens, when the last chunk has been added."""
        return self.all if isinstance(self._indices, slice) else self.all.index_add_(1, self._indices, self.far)

    def zeros(self) -> _Tokens:
        """As many zeros: gradients, to add to."""
        return _Tokens(torch.zeros_like(self.all), self._indices)


class _Heads:
    """Some heads of a call, computed together: all heads of some rows of the batch, or some heads of one row.

    Attributes:
        of_query: which heads, as indices [rows of the batch, query heads].
        of_key: the KV heads that these share.
        queries: [KV heads, queries, head_dim], scaled: the heads that share a KV head take turns at each position.
        keys: of the KV heads.
        values: like ``keys``.
    """

    def __init__(
        self,
        of_query: tuple[slice, slice],
        of_key: tuple[slice, slice],
        tensors: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        far: torch.Tensor | slice,
        scale: float,
    ) -> None:
        query, key, value = tensors
        self.of_query, self.of_key = of_query, of_key
        self._dtype = torch.promote_types(key.dtype, torch.float32)
        self.keys, self.values = (_Tokens(states[of_key].flatten(0, 1).to(self._dtype), far) for states in (key, value))
        self.queries = self.gather(query) * scale

    def gather(self, states: torch.Tensor) -> torch.Tensor:
        """These heads of ``states`` [batch, query heads, q_len, head_dim], arranged like ``queries``."""
        own = states[self.of_query].to(self._dtype)
        by_kv_head = own.reshape(len(self.keys.all), -1, *own.shape[2:])
        return by_kv_head.transpose(1, 2).flatten(1, 2)

    def scatter(self, rows: torch.Tensor, states: torch.Tensor) -> None:
        """The inverse of `gather`."""
        place = states[self.of_query]
        by_position = rows.view(len(rows), place.shape[2], -1, rows.shape[2])
        place.copy_(by_position.transpose(1, 2).reshape(place.shape))

    def attend(self, chunk: Chunk, room: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The chunk's queries, its keys, and the softmax of their products [KV heads, queries, keys], in ``room``."""
        queries, keys = self.queries[:, chunk.rows], self.keys.of(chunk)
        scores = torch.bmm(queries, keys.transpose(1, 2), out=_if_it_fits(room, queries, keys))
        for seen_by_some, bias in chunk.edges:
            scores[:, :, seen_by_some].add_(bias)
        return queries, keys, torch.softmax(scores, dim=-1, out=scores)


def _if_it_fits(room: torch.Tensor | None, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor | None:
    """The last chunk's scores as memory for this one's if they are as many, which most are; None to allocate anew."""
    return room if room is not None and room.shape[1:] == (queries.shape[1], keys.shape[1]) else None


def _heads_by_turns(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: Plan, scale: float
) -> Iterator[_Heads]:
    """All heads of a call, about as many at a time as have room for their scores."""
    batch, kv_heads = key.shape[:2]
    group_size = query.shape[1] // kv_heads
    most_scores = max(chunk.scores for chunk in plan.chunks)
    at_a_time = max(1, (SCORES_ON_CPU if query.device.type == "cpu" else SCORES_ELSEWHERE) // most_scores)
    rows = max(1, at_a_time // kv_heads)
    turns = -(-kv_heads // at_a_time)
    heads = -(-kv_heads // turns)  # turns of equal size, rather than a small one at the end
    for row in range(0, batch, rows):
        of_rows = slice(row, row + rows)
        for head in range(0, kv_heads, heads):
            of_query = slice(head * group_size, (head + heads) * group_size)
            of_key = slice(head, head + heads)
            yield _Heads((of_rows, of_query), (of_rows, of_key), (query, key, value), plan.far, scale)


class _BlockedAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, plan: Plan, scale: float
    ) -> torch.Tensor:
        output = torch.empty_like(query)
        for heads in _heads_by_turns(query, key, value, plan, scale):
            outputs = torch.empty_like(heads.queries)
            weights = None
            for chunk in plan.chunks:
                _, _, weights = heads.attend(chunk, weights)
                outputs[:, chunk.rows] = torch.bmm(weights, heads.values.of(chunk))
            heads.scatter(outputs, output)
        ctx.save_for_backward(query, key, value, output)
        ctx.plan, ctx.scale = plan, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        with outside_autocast(grad_outputs[0].device):  # a backward pass may be called inside it
            query, key, value, output = ctx.saved_tensors
            gradients = _gradients(query, key, value, output, grad_outputs[0], ctx.plan, ctx.scale)
        return *gradients, None, None


def _gradients(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    grad_output: torch.Tensor,
    plan: Plan,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key and value, in their dtypes."""
    grad_query, grad_key, grad_value = (torch.empty_like(states) for states in (query, key, value))
    for heads in _heads_by_turns(query, key, value, plan, scale):
        all_grads = heads.gather(grad_output)
        # The gradient of a row of scores is weights * (grad_weights - their weighted mean), and the mean is this:
        means = (all_grads * heads.gather(output)).sum(-1, keepdim=True)
        grad_queries = torch.empty_like(heads.queries)
        grad_keys, grad_values = heads.keys.zeros(), heads.values.zeros()
        weights = grad_scores = None
        for chunk in plan.chunks:
            queries, keys, weights = heads.attend(chunk, weights)
            grads, values = all_grads[:, chunk.rows], heads.values.of(chunk)
            grad_values.add(chunk, torch.bmm(weights.transpose(1, 2), grads))
            room = _if_it_fits(grad_scores, queries, keys)
            grad_scores = torch.baddbmm(means[:, chunk.rows], grads, values.transpose(1, 2), beta=-1, out=room)
            grad_scores.mul_(weights)
            grad_keys.add(chunk, torch.bmm(grad_scores.transpose(1, 2), queries))
            grad_queries[:, chunk.rows] = torch.bmm(grad_scores, keys)
        heads.scatter(grad_queries.mul_(scale), grad_query)
        for states, gradients in ((grad_key, grad_keys), (grad_value, grad_values)):
            states[heads.of_key] = gradients.total().view(states[heads.of_key].shape)
    return grad_query, grad_key, grad_value


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
    options = (call.query_offset, call.head_offset, query.shape[2], call.pruned, group_size, str(query.device))
    return _BlockedAttention.apply(query, key, value, plan_chunks(call.pattern, *options), call.scale)
