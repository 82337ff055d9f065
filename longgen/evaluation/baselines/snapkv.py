"""SnapKV: the tokens that the end of the prompt looks at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import torch
import torch.nn.functional as F
from transformers import PretrainedConfig

from longgen.errors import ConfigError
from longgen.evaluation.baselines.method import check_count, kv_heads_of, whole_tokens
from longgen.evaluation.baselines.pruned import PrunedLayer, PruningMethod
from longgen.evaluation.baselines.scores import attention_mass, best_and_last

POOLINGS: dict[str, Callable[..., torch.Tensor]] = {"max": F.max_pool1d, "avg": F.avg_pool1d}


@dataclass(frozen=True)
class SnapKV(PruningMethod):
    """SnapKV (Li et al. 2024, arXiv 2404.14469, section 4).

    The last ``window`` tokens of the prompt vote for the others with their attention; votes are pooled over neighbours,
    and the best tokens stay, beside the window itself. Nothing is evicted while decoding. The defaults are those of the
    authors' LongBench configurations.

    Attributes:
        capacity: tokens per KV head that are kept of a prompt, the window included.
        window: the observation window at the end of the prompt, in tokens.
        kernel: tokens that the pooling takes together; odd.
        pooling: ``max`` or ``avg``.

    Raises:
        ConfigError: an impossible number or pooling.
    """

    capacity: int
    window: int = 32
    kernel: int = 7
    pooling: str = "max"

    def __post_init__(self) -> None:
        for name in ("window", "kernel"):
            check_count(name, getattr(self, name))
        check_count("capacity", self.capacity, self.window + 1)
        if not self.kernel % 2:
            raise ConfigError(f"kernel is {self.kernel}: allowed is an odd number")
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling is {self.pooling!r}: allowed are {', '.join(POOLINGS)}")

    @classmethod
    def for_tokens(cls, tokens: Fraction, length: int, config: PretrainedConfig, **fields: Any) -> Self:
        """``capacity`` tokens per KV head."""
        return cls(whole_tokens(tokens, fields.get("window", cls.window) + 1), **fields)

    def kept_tokens(self, length: int, config: PretrainedConfig) -> int:
        """At most ``capacity`` per KV head."""
        return min(length, self.capacity) * kv_heads_of(config)

    def tokens_before_window(self, layer: int, num_layers: int, length: int) -> int:
        """How many tokens before the window stay in ``layer`` of a prompt longer than ``capacity``."""
        return self.capacity - self.window

    def keep(self, layer: PrunedLayer, query: torch.Tensor, scale: float) -> torch.Tensor | None:
        """After the prompt: the best of what stands before the window, and the window."""
        length = query.shape[2]
        if length <= self.capacity:  # a short prompt, or a token that is decoded
            return None
        votes = attention_mass(query[:, :, -self.window :], layer.keys, scale)[..., : -self.window]
        scores = POOLINGS[self.pooling](votes, self.kernel, stride=1, padding=self.kernel // 2)
        return best_and_last(scores, self.tokens_before_window(layer.index, layer.num_layers, length), length)
