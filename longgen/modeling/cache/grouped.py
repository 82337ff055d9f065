"""A layer whose KV heads see differently: staggered heads, and head-level hybrids."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers.cache_utils import CacheLayerMixin

from longgen.hybrid import HeadGroup, HeadPattern
from longgen.modeling.attention_parts import AttentionPart, select_heads
from longgen.modeling.cache.layer import PatternCacheLayer
from longgen.modeling.padding import TokenIndex


class GroupedCacheLayer(CacheLayerMixin):
    """One cache layer per group of KV heads, each with its own number of tokens.

    Args:
        groups: the layer's heads.
        make_layer: makes the cache layer of a group.
    """

    def __init__(self, groups: Sequence[HeadGroup], make_layer: Callable[[HeadPattern], PatternCacheLayer]) -> None:
        super().__init__()
        self.heads = [heads for heads, _ in groups]
        self.layers = [make_layer(head_pattern) for _, head_pattern in groups]
        self.is_sliding = all(layer.is_sliding for layer in self.layers)
        self.is_compileable = all(layer.is_compileable for layer in self.layers)
        self.is_croppable = all(layer.is_croppable for layer in self.layers)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Give every group its heads' states."""
        for heads, layer in zip(self.heads, self.layers, strict=True):
            layer.lazy_initialization(select_heads(key_states, heads), select_heads(value_states, heads))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[TokenIndex] | None = None
    ) -> tuple[list[AttentionPart], None]:
        """As `PatternCacheLayer.update`, for every group."""
        self.is_initialized = True
        parts = []
        for heads, layer in zip(self.heads, self.layers, strict=True):
            group_parts, _ = layer.update(select_heads(key_states, heads), select_heads(value_states, heads), rows)
            parts += [part._replace(heads=heads) for part in group_parts]
        return parts, None

    def get_seq_length(self) -> int:
        """Tokens given, padding included."""
        return self.layers[0].get_seq_length()

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """As `PatternCacheLayer.get_mask_sizes`."""
        return self.layers[0].get_mask_sizes(query_length)

    def get_max_length(self) -> int:
        """The groups' maximum, or -1 for none."""
        return self.layers[0].get_max_length()

    @property
    def dtype(self) -> torch.dtype:
        """Of keys and values."""
        return self.layers[0].dtype

    @property
    def record_past(self) -> bool:
        """As of any layer."""
        return all(layer.record_past for layer in self.layers)

    @record_past.setter
    def record_past(self, record: bool) -> None:
        for layer in self.layers:
            layer.record_past = record

    def activate_past_recording(self) -> None:
        """From here on hold what a `crop` needs."""
        for layer in self.layers:
            layer.activate_past_recording()

    def crop(self, tokens_to_remove: int) -> None:
        """As `PatternCacheLayer.crop`, for every group."""
        for layer in self.layers:
            layer.crop(tokens_to_remove)

    def reset(self) -> None:
        """Forget everything."""
        for layer in self.layers:
            layer.reset()

    def offload(self) -> None:
        """Move to the CPU."""
        for layer in self.layers:
            layer.offload()

    def prefetch(self) -> None:
        """Move back to the device."""
        for layer in self.layers:
            layer.prefetch()

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Row i becomes the former row ``beam_idx[i]``."""
        for layer in self.layers:
            layer.reorder_cache(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row ``repeats`` times."""
        for layer in self.layers:
            layer.batch_repeat_interleave(repeats)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows ``indices``."""
        for layer in self.layers:
            layer.batch_select_indices(indices)
