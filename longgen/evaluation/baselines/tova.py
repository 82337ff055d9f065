"""TOVA: drop the token that the newest one attends to least."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import torch
from transformers import PretrainedConfig

from longgen.evaluation.baselines.method import check_count, kv_heads_of, whole_tokens
from longgen.evaluation.baselines.pruned import PrunedLayer, PruningMethod
from longgen.evaluation.baselines.scores import attention_mass, best_and_last


@dataclass(frozen=True)
class TOVA(PruningMethod):
    """TOVA, token omission via attention (Oren et al. 2024, arXiv 2401.06104, section 3.2).

    After the prompt and after every token that is decoded, the tokens stay to which the newest one attends most,
    averaged over all heads of the layer: one choice for all of them. No token is protected, as in the authors' code.

    Attributes:
        capacity: tokens per layer.

    Raises:
        ConfigError: not a whole number >= 1.
    """

    capacity: int

    def __post_init__(self) -> None:
        check_count("capacity", self.capacity)

    @classmethod
    def for_tokens(cls, tokens: Fraction, length: int, config: PretrainedConfig, **fields: Any) -> Self:
        """``capacity`` tokens."""
        return cls(whole_tokens(tokens, 1), **fields)

    def kept_tokens(self, length: int, config: PretrainedConfig) -> int:
        """At most ``capacity`` per KV head."""
        return min(length, self.capacity) * kv_heads_of(config)

    def keep(self, layer: PrunedLayer, query: torch.Tensor, scale: float) -> torch.Tensor | None:
        """The tokens with most of the last query's attention."""
        length = layer.keys.shape[2]
        if length <= self.capacity:
            return None
        mass = attention_mass(query[:, :, -1:], layer.keys, scale)
        return best_and_last(mass.mean(1, keepdim=True), self.capacity, length).expand(-1, mass.shape[1], -1)
