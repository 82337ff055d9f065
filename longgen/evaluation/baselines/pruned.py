"""Methods that read the prompt with full attention and then keep the tokens that score best, per KV head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache

from longgen.attention import full_attention
from longgen.evaluation.baselines.method import Method
from longgen.hybrid import HeadPattern
from longgen.modeling.cache.layer import PatternCacheLayer
from longgen.modeling.padding import TokenIndex


@dataclass(frozen=True)
class PruningMethod(Method):
    """A method that decides after every call which tokens of a layer stay."""

    def keep(self, layer: PrunedLayer, query: torch.Tensor, scale: float) -> torch.Tensor | None:
        """Which of the layer's tokens stay.

        Args:
            layer: with the tokens of this call, which the queries have just attended to.
            query: [batch, query heads, q_len, head_dim]: of the whole prompt, or of one token.
            scale: softmax scale.

        Returns:
            [batch, KV heads, kept] int64, ascending indices into the layer's tokens; None if all stay.
        """
        raise NotImplementedError

    def make_cache(self, model: Any) -> Cache:
        """A `PrunedLayer` for every layer."""
        count = model.config.num_hidden_layers
        return Cache(layers=[PrunedLayer(self, index, count) for index in range(count)])


class PrunedLayer(PatternCacheLayer):
    """What is left of a layer's keys and values, in the order of their tokens; heads may keep different ones.

    Attributes:
        positions: [batch, KV heads, kept] int64, in the sequence.
        mass: [batch, KV heads, kept], attention received so far; only for methods that accumulate it.
    """

    TENSORS = ("keys", "values", "positions", "mass")

    def __init__(self, method: PruningMethod, index: int, num_layers: int) -> None:
        super().__init__(HeadPattern())
        self.method, self.index, self.num_layers = method, index, num_layers
        self.positions: Any = None
        self.mass: Any = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[TokenIndex] | None = None
    ) -> tuple[Any, None]:
        """Append; gives attention a function (`longgen.evaluation.baselines.method.Attend`) in the place of keys."""
        start, end = self.get_seq_length(), self.get_seq_length() + key_states.shape[2]
        positions = torch.arange(start, end, device=key_states.device).expand(*key_states.shape[:2], -1)
        if start:
            if end > start + 1:
                raise ValueError(f"{end - start} tokens after the prompt: allowed is one at a time")
            self.keys = torch.cat([self.keys, key_states], dim=2)
            self.values = torch.cat([self.values, value_states], dim=2)
            self.positions = torch.cat([self.positions, positions], dim=2)
        else:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values, self.positions = key_states, value_states, positions
        self.cumulative_length = end
        return self._attend, None

    def _attend(self, query: torch.Tensor, scale: float, kernel: str) -> torch.Tensor:
        output = full_attention(query, self.keys, self.values, scale, None, kernel)
        indices = self.method.keep(self, query, scale)
        if indices is not None:
            by_token = indices[..., None].expand(-1, -1, -1, self.keys.shape[-1])
            self.keys, self.values = self.keys.gather(2, by_token), self.values.gather(2, by_token)
            self.positions = self.positions.gather(2, indices)
            self.mass = None if self.mass is None else self.mass.gather(2, indices)
        return output
