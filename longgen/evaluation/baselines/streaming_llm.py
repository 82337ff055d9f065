"""StreamingLLM: attention sinks and recent tokens, with positions in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import torch
from transformers import PretrainedConfig

from longgen.evaluation.baselines.method import check_count, whole_tokens
from longgen.evaluation.baselines.repositioned import RepositionedMethod, rotate
from longgen.pattern import SparsePattern


@dataclass(frozen=True)
class StreamingLLM(RepositionedMethod):
    """StreamingLLM (Xiao et al. 2023, arXiv 2309.17453, section 3.2).

    Every token sees the sinks, the last ``recent`` tokens and itself, at the positions that they have in the cache, not
    in the sequence. The authors cache keys without RoPE and rotate all of them at every step. Distances within the
    window come out as the true ones; those to the sinks are less by the number of tokens evicted. So here a query is
    turned back by that number where it meets the sinks, which gives the same scores. The whole prompt at once gives
    what the authors' evaluation gets token by token.

    Attributes:
        recent: tokens of the window before the query's own.
        sinks: the first tokens; the authors' default.

    Raises:
        ConfigError: not whole numbers, ``recent`` below 1 or ``sinks`` below 0.
    """

    recent: int
    sinks: int = 4

    def __post_init__(self) -> None:
        check_count("recent", self.recent)
        check_count("sinks", self.sinks, 0)

    @classmethod
    def for_tokens(cls, tokens: Fraction, length: int, config: PretrainedConfig, **fields: Any) -> Self:
        """``recent`` takes what the sinks leave."""
        sinks = fields.get("sinks", cls.sinks)
        return cls(whole_tokens(tokens, sinks + 1) - sinks, **fields)

    @property
    def pattern(self) -> SparsePattern:
        """Sinks, ``recent`` tokens and the query's own."""
        return SparsePattern(block_size=1, sink_blocks=self.sinks, local_blocks=self.recent + 1)

    def sink_scores(
        self, query: torch.Tensor, key: torch.Tensor, at: torch.Tensor, sinks: torch.Tensor, inv_freq: torch.Tensor
    ) -> torch.Tensor:
        """Sinks as far away as they are in the cache."""
        num_evicted = (at - self.sinks - self.recent).clamp(min=0)
        return rotate(query, -num_evicted, inv_freq) @ key.mT
