"""Which caches a model takes as ``past_key_values``: ours, if made for it, and some of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PretrainedConfig
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, QuantizedLayer

from longgen.hybrid import HeadGroup
from longgen.modeling.cache.cache import LongGenCache
from longgen.modeling.cache.grouped import GroupedCacheLayer
from longgen.modeling.cache.layer import PatternCacheLayer


def check_cache(cache: Any, groups: Sequence[tuple[HeadGroup, ...]], config: PretrainedConfig) -> None:
    """Refuse a cache that would give other tokens, or more, than this model's layers are to see.

    Ours says what its heads see, and must be of the model's layout, pattern and RoPE. One of transformers must give all
    tokens so far, in their order, and nothing else: a static cache gives room that is not filled yet, a sliding one has
    forgotten tokens that full heads still see. Written so that torch.compile can trace it: a graph refuses what the
    model refuses.

    Args:
        cache: what was given as ``past_key_values``; None is fine.
        groups: for every layer that runs, its heads grouped by what they see.
        config: of the model.

    Raises:
        ValueError: a cache made for another model, or none of ours and no `DynamicCache` or `QuantizedCache` of plain
            layers.
    """
    if cache is None:
        return
    if isinstance(cache, LongGenCache):
        if not cache.reduces_another:
            _check_own(cache, groups, config)
        return
    problem = None
    if not isinstance(cache, Cache) or not hasattr(cache, "layers"):
        problem = type(cache).__name__
    else:
        kinds = {type(layer) for layer in cache.layers}
        if not kinds and not isinstance(cache, DynamicCache):  # layers that are still to be made
            kinds = {cache.layer_class_to_replicate}
        wrong = sorted(kind.__name__ for kind in kinds if not _holds_all(kind))
        if wrong:
            problem = f"{type(cache).__name__} with layers of {', '.join(wrong)}"
    if problem is not None:
        raise ValueError(
            f"past_key_values is {problem}: allowed are a LongGenCache (with max_length where shapes must not change, "
            "as `generate` makes for cache_implementation='static'), or a DynamicCache of plain layers"
        )


def _check_own(cache: LongGenCache, groups: Sequence[tuple[HeadGroup, ...]], config: PretrainedConfig) -> None:
    cache_groups = cache.head_groups[: len(groups)]
    wrong = None
    if len(cache_groups) < len(groups):
        wrong = f"{len(cache_groups)} layers"
    elif any(cached != of_model for cached, of_model in zip(cache_groups, groups, strict=True)):
        wrong = "another layout or pattern"
    elif cache.config.rope_parameters != config.rope_parameters:
        wrong = f"RoPE {cache.config.rope_parameters}"
    if wrong is not None:
        raise ValueError(
            f"past_key_values is a LongGenCache of a model with {wrong}: allowed is LongGenCache(model.config), with "
            "the config as it was when the model was made"
        )


def _holds_all(kind: type) -> bool:
    ours = issubclass(kind, PatternCacheLayer | GroupedCacheLayer)
    return ours or kind is DynamicLayer or issubclass(kind, QuantizedLayer)
