"""Sink and window in all layers, at true positions."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

from transformers import PretrainedConfig

from longgen.evaluation.baselines.method import whole_tokens
from longgen.evaluation.baselines.patterned import PatternedMethod
from longgen.hybrid import Hybrid
from longgen.layout import make_layout
from longgen.pattern import SparsePattern


@dataclass(frozen=True)
class SinkWindow(PatternedMethod):
    """LongGen's all-sparse layout with its sink and window (arXiv 2410.01485), without the fine-tuning.

    Attributes:
        pattern: of all heads.
    """

    pattern: SparsePattern

    @classmethod
    def for_tokens(cls, tokens: Fraction, length: int, config: PretrainedConfig, **fields: Any) -> Self:
        """The longest window, in blocks, for at most ``tokens``; ``fields`` are those of the pattern."""
        smallest = SparsePattern(**fields | {"local_blocks": 1})
        allowed = whole_tokens(tokens, smallest.kept_count(length))
        blocks = range(1, -(-length // smallest.block_size) + 2)
        patterns = [SparsePattern(**fields | {"local_blocks": count}) for count in blocks]
        fitting = bisect.bisect_right(patterns, allowed, key=lambda pattern: pattern.kept_count(length))
        return cls(patterns[fitting - 1])

    def hybrid(self, config: PretrainedConfig) -> Hybrid:
        """All layers sparse."""
        return Hybrid(make_layout(config.num_hidden_layers, "none"), self.pattern)
