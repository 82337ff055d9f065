"""The KV cache of a hybrid."""

from longgen.modeling.cache.cache import LongGenCache

__all__ = ["LongGenCache"]
