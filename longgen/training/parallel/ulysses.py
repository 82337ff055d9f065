"""Ulysses sequence parallelism (Jacobs et al. 2023, arXiv 2309.14509).

Every process holds a stretch of the tokens of a row. For attention, and for nothing else, they exchange: each gets all
tokens of some of the heads, and gives the result back. So any attention works, whatever its pattern, unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

from longgen.errors import ConfigError
from longgen.hybrid import HeadGroup


class _Exchange(torch.autograd.Function):
    """Part i of the first dimension goes to process i of the group; its gradient comes back the same way."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, group: dist.ProcessGroup) -> torch.Tensor:
        ctx.group = group
        received = torch.empty_like(states)
        dist.all_to_all_single(received, states, group=group)
        return received

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _Exchange.apply(grad_outputs[0].contiguous(), ctx.group), None


class SequenceParallel:
    """The processes that share the tokens of a row.

    Args:
        group: these processes, in the order of their stretches of tokens.
        num_heads: query heads of a layer.
        num_kv_heads: KV heads. Where they are fewer than processes, several processes get the same one.

    Raises:
        ConfigError: heads cannot be shared out evenly.
    """

    def __init__(self, group: dist.ProcessGroup, num_heads: int, num_kv_heads: int) -> None:
        self.group, self.size, self.rank = group, dist.get_world_size(group), dist.get_rank(group)
        if num_heads % self.size or (num_kv_heads % self.size and self.size % num_kv_heads):
            raise ConfigError(
                f"sequence_parallel is {self.size}: allowed are divisors of {num_heads} heads that divide "
                f"{num_kv_heads} KV heads or are multiples of them"
            )
        self.copies = max(1, self.size // num_kv_heads)
        count = max(1, num_kv_heads // self.size)
        first = self.rank // self.copies if self.copies > 1 else self.rank * count
        self.kv_heads = range(first, first + count)

    def to_heads(self, states: torch.Tensor) -> torch.Tensor:
        """[batch, heads, own tokens, head_dim] of every process as [batch, own heads, all tokens, head_dim]."""
        if states.shape[1] % self.size:
            states = states.repeat_interleave(self.copies, dim=1)
        batch, heads, tokens, head_dim = states.shape
        parts = states.reshape(batch, self.size, heads // self.size, tokens, head_dim).transpose(0, 1).contiguous()
        received = _Exchange.apply(parts, self.group)  # [processes, batch, own heads, tokens of each, head_dim]
        return received.permute(1, 2, 0, 3, 4).reshape(batch, heads // self.size, self.size * tokens, head_dim)

    def to_tokens(self, states: torch.Tensor) -> torch.Tensor:
        """The inverse of `to_heads` for as many heads as there are queries."""
        batch, heads, tokens, head_dim = states.shape
        parts = states.reshape(batch, heads, self.size, tokens // self.size, head_dim).permute(2, 0, 1, 3, 4)
        received = _Exchange.apply(parts.contiguous(), self.group)
        return received.transpose(0, 1).reshape(batch, self.size * heads, tokens // self.size, head_dim)

    def own_groups(self, groups: Sequence[HeadGroup]) -> tuple[HeadGroup, ...]:
        """The groups of this process's KV heads, numbered from 0."""
        own_groups = [
            HeadGroup(tuple(head - self.kv_heads.start for head in heads if head in self.kv_heads), head_pattern)
            for heads, head_pattern in groups
        ]
        return tuple(group for group in own_groups if group.heads)
