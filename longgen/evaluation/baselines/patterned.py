"""Methods whose heads see by position alone: the model's own attention and cache, with another layout and pattern."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from transformers import PretrainedConfig
from transformers.cache_utils import Cache

from longgen.evaluation.baselines.method import Method
from longgen.hybrid import Hybrid
from longgen.modeling.cache import LongGenCache


@dataclass(frozen=True)
class PatternedMethod(Method):
    """A hybrid that was not fine-tuned as one. Prompts are read as they are decoded: nothing is seen and then lost."""

    attention = None

    def hybrid(self, config: PretrainedConfig) -> Hybrid:
        """What every head sees."""
        raise NotImplementedError

    def kept_tokens(self, length: int, config: PretrainedConfig) -> int:
        """What later tokens can see."""
        hybrid, heads = self.hybrid(config), config.num_key_value_heads
        groups = [group for layer in range(config.num_hidden_layers) for group in hybrid.head_groups(layer, heads)]
        return sum(len(group.heads) * group.head_pattern.kept_count(length) for group in groups)

    def make_cache(self, model: Any) -> Cache:
        """A `LongGenCache` for that hybrid."""
        hybrid = self.hybrid(model.config)
        config = copy.deepcopy(model.config)
        config.longgen = {"layout": hybrid.layout.kinds(), "pattern": hybrid.pattern.to_dict()}
        cache = LongGenCache(config)
        cache.reduces_another = True
        return cache
