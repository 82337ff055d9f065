"""LM-Infinite: a Lambda-shaped mask and a ceiling on distances."""

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
class LMInfinite(RepositionedMethod):
    """LM-Infinite (Han et al. 2023, arXiv 2308.16137, section 4).

    Every token sees the first ``sinks`` tokens and the last ``window``, its own included. What is further away than
    ``ceiling`` is met as if it were at that distance. The paper's window and ceiling are both the length that the model
    was trained with; here the window is what the budget allows, and the ceiling stays. Hence within the trained length
    distances are true ones. Without the paper's optional top-k tokens from the middle.

    Attributes:
        window: tokens.
        sinks: the first tokens; 10 to 100 make little difference, the authors write.
        ceiling: the longest distance, at least the window; None for no ceiling.

    Raises:
        ConfigError: not whole numbers, or too small.
    """

    window: int
    sinks: int = 10
    ceiling: int | None = None

    def __post_init__(self) -> None:
        check_count("window", self.window)
        check_count("sinks", self.sinks, 0)
        if self.ceiling is not None:
            check_count("ceiling", self.ceiling, self.window)

    @classmethod
    def for_tokens(cls, tokens: Fraction, length: int, config: PretrainedConfig, **fields: Any) -> Self:
        """``window`` takes what the sinks leave, and ``ceiling`` is the model's ``max_position_embeddings``."""
        sinks = fields.get("sinks", cls.sinks)
        ceiling = fields.pop("ceiling", config.max_position_embeddings)
        window = whole_tokens(tokens, sinks) - sinks + 1  # a query's own token is not yet in the cache
        return cls(window if ceiling is None else min(window, ceiling), ceiling=ceiling, **fields)

    @property
    def pattern(self) -> SparsePattern:
        """Sinks and window."""
        return SparsePattern(block_size=1, sink_blocks=self.sinks, local_blocks=self.window)

    def sink_scores(
        self, query: torch.Tensor, key: torch.Tensor, at: torch.Tensor, sinks: torch.Tensor, inv_freq: torch.Tensor
    ) -> torch.Tensor:
        """Sinks at their distance, or at the ceiling."""
        true = query @ key.mT
        if self.ceiling is None:
            return true
        at_ceiling = rotate(query, self.ceiling - at, inv_freq) @ rotate(key, -sinks, inv_freq).mT
        return torch.where(at[:, None] - sinks > self.ceiling, at_ceiling, true)
