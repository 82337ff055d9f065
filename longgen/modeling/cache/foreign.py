"""Which caches of transformers may stand in for ours."""

from __future__ import annotations

from typing import Any

from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, QuantizedLayer

from longgen.modeling.cache.grouped import GroupedCacheLayer
from longgen.modeling.cache.layer import SightCacheLayer


def check_cache(cache: Any) -> None:
    """Refuse a cache whose layers do not give all tokens so far, in their order, and nothing else.

    A static cache gives room that is not filled yet, a sliding one has forgotten tokens that full heads still see: both
    would be taken for a cache that holds every token.

    Args:
        cache: what was given as ``past_key_values``; None is fine.

    Raises:
        ValueError: a cache that is none of ours, and no `DynamicCache` or `QuantizedCache` of plain layers.
    """
    if cache is None:
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


def _holds_all(kind: type) -> bool:
    ours = issubclass(kind, SightCacheLayer | GroupedCacheLayer)
    return ours or kind is DynamicLayer or issubclass(kind, QuantizedLayer)
