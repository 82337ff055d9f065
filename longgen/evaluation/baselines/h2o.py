"""H2O: heavy hitters, the tokens that received most attention so far, and recent ones."""

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
class H2O(PruningMethod):
    """H2O, heavy-hitter oracle (Zhang et al. 2023, arXiv 2306.14048, section 4).

    Every token collects the attention that it receives from all queries, those of the prompt and those decoded. After
    the prompt and after every step the last ``recent`` tokens stay, and of the others the ``heavy`` ones that
    collected most, per KV head. An evicted token's collection is lost. The sums, one number per token and KV head, come
    on top of the KV cache and are not counted in its bytes.

    Attributes:
        heavy: heavy hitters per KV head.
        recent: recent tokens per KV head; the authors give both the same share.

    Raises:
        ConfigError: not a whole number >= 1.
    """

    heavy: int
    recent: int

    def __post_init__(self) -> None:
        check_count("heavy", self.heavy)
        check_count("recent", self.recent)

    @classmethod
    def for_tokens(cls, tokens: Fraction, length: int, config: PretrainedConfig, **fields: Any) -> Self:
        """Half of the tokens each."""
        whole = whole_tokens(tokens, 2)
        return cls(whole - whole // 2, whole // 2, **fields)

    def kept_tokens(self, length: int, config: PretrainedConfig) -> int:
        """At most ``heavy + recent`` per KV head."""
        return min(length, self.heavy + self.recent) * kv_heads_of(config)

    def keep(self, layer: PrunedLayer, query: torch.Tensor, scale: float) -> torch.Tensor | None:
        """Heavy hitters and recent tokens."""
        mass = attention_mass(query, layer.keys, scale)
        if layer.mass is not None:
            mass[..., :-1] += layer.mass
        layer.mass = mass
        length = mass.shape[-1]
        if length <= self.heavy + self.recent:
            return None
        return best_and_last(mass[..., : length - self.recent], self.heavy, length)
