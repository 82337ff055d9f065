"""Methods with a sink and a window of tokens whose sink keeps to a bounded distance from the query."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import Cache

from longgen.evaluation.baselines.method import Method, kv_heads_of
from longgen.evaluation.baselines.scores import scores_at_once
from longgen.hybrid import HeadPattern
from longgen.modeling.attention_parts import AttentionPart
from longgen.modeling.cache.exact import SparseCacheLayer
from longgen.modeling.padding import TokenIndex
from longgen.pattern import SparsePattern


def rotate(states: torch.Tensor, by: torch.Tensor, inv_freq: torch.Tensor) -> torch.Tensor:
    """RoPE (arXiv 2104.09864) once more: ``states`` at position p become those at p + ``by``.

    Args:
        states: [..., tokens, head_dim], rotated before.
        by: [tokens] positions, of either sign.
        inv_freq: [head_dim / 2] radians per position.

    Returns:
        like ``states``.
    """
    angles = by[:, None].float() * inv_freq
    cos, sin = angles.cos(), angles.sin()
    first, second = states.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(states.dtype)


@dataclass(frozen=True)
class RepositionedMethod(Method):
    """A sink and a window of tokens, for the prompt as for decoding.

    Scores depend on distances alone, and in the window those are true. Hence only what a query and a sink see of each
    other is rotated again, and keys stay in the cache as they are.
    """

    @property
    def pattern(self) -> SparsePattern:
        """Who sees whom, in blocks of a token."""
        raise NotImplementedError

    def sink_scores(
        self, query: torch.Tensor, key: torch.Tensor, at: torch.Tensor, sinks: torch.Tensor, inv_freq: torch.Tensor
    ) -> torch.Tensor:
        """Products of queries and sinks, before scaling.

        Args:
            query: [batch, KV heads, group, q_len, head_dim], at their true positions ``at`` [q_len].
            key: [batch, KV heads, 1, sinks, head_dim], at their true positions ``sinks``.
            at: int64.
            sinks: int64.
            inv_freq: see `rotate`.

        Returns:
            [batch, KV heads, group, q_len, sinks].
        """
        raise NotImplementedError

    def kept_tokens(self, length: int, config: PretrainedConfig) -> int:
        """What later tokens can see."""
        return self.pattern.kept_count(length) * kv_heads_of(config)

    def make_cache(self, model: Any) -> Cache:
        """A `RepositionedLayer` for every layer."""
        inv_freq = model.model.rotary_emb.inv_freq
        return Cache(layers=[RepositionedLayer(self, inv_freq) for _ in range(model.config.num_hidden_layers)])

    def attend(
        self, query: torch.Tensor, scale: float, kernel: str, *, piece: AttentionPart, inv_freq: torch.Tensor
    ) -> torch.Tensor:
        """Attention of the piece's queries, a strip of them at a time.

        Args:
            query: [batch, query heads, q_len, head_dim].
            scale: softmax scale.
            kernel: not used.
            piece: keys and values of what is left of the past, then of the new tokens.
            inv_freq: see `rotate`.

        Returns:
            like ``query``.
        """
        pattern, key, value = self.pattern, piece.key[:, :, None], piece.value[:, :, None]
        batch, heads, q_len, _ = query.shape
        past = torch.tensor(pattern.kept_positions(piece.query_offset), device=query.device)
        new = torch.arange(piece.query_offset, piece.query_offset + q_len, device=query.device)
        positions = torch.cat([past, new])
        sinks = min(pattern.sink_blocks, len(positions))
        query = query.unflatten(1, (key.shape[1], -1))
        output = torch.empty_like(query)
        window = min(pattern.local_blocks, len(positions))
        rows = min(window, max(1, scores_at_once(query.device) // (batch * heads * (sinks + 2 * window))))
        for start in range(0, q_len, rows):
            strip = slice(start, min(start + rows, q_len))
            part, at = query[:, :, :, strip], new[strip]
            # tokens stand in order, without gaps but after the sinks
            near = slice(max(sinks, len(past) + start + 1 - window), len(past) + strip.stop)
            scores = torch.cat(
                [
                    self.sink_scores(part, key[..., :sinks, :], at, positions[:sinks], inv_freq),
                    part @ key[..., near, :].mT,
                ],
                dim=-1,
            )
            key_positions = torch.cat([positions[:sinks], positions[near]])
            allowed = pattern.allowed(at[:, None], key_positions)
            dtype = torch.promote_types(query.dtype, torch.float32)
            weights = (scores.to(dtype) * scale).masked_fill_(~allowed, float("-inf")).softmax(-1).to(query.dtype)
            far_and_near = weights.split([sinks, len(key_positions) - sinks], dim=-1)
            output[:, :, :, strip] = far_and_near[0] @ value[..., :sinks, :] + far_and_near[1] @ value[..., near, :]
        return output.flatten(1, 2)


class RepositionedLayer(SparseCacheLayer):
    """Sink and window; keys at their true positions."""

    def __init__(self, method: RepositionedMethod, inv_freq: torch.Tensor) -> None:
        super().__init__(HeadPattern(method.pattern))
        self.method, self.inv_freq = method, inv_freq

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[TokenIndex] | None = None
    ) -> tuple[Any, None]:
        """Append and evict; gives attention a function (`longgen.evaluation.baselines.method.Attend`) for keys."""
        (piece,), _ = super().update(key_states, value_states, rows)
        return functools.partial(self.method.attend, piece=piece, inv_freq=self.inv_freq), None
