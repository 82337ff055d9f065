"""The KV cache of a hybrid: a sparse layer holds exactly what later tokens can see, a full layer grows in chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import PretrainedConfig
from transformers.cache_utils import Cache, DynamicLayer

from longgen.modeling.configuration import hybrid_of
from longgen.pattern import SparsePattern

# Tokens by which a full layer's buffers grow (our choice): concatenating at every decoded token costs a copy of all.
GROWTH_TOKENS = 256


class FullCacheLayer(DynamicLayer):
    """All tokens, in buffers [batch, KV heads, capacity, head_dim] whose capacity is a multiple of GROWTH_TOKENS."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.cumulative_length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append [batch, KV heads, new, head_dim] states; returns all keys and values seen so far, as views."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.cumulative_length, self.cumulative_length + key_states.shape[-2]
        self.keys = _with_room(self.keys, key_states, start, end)
        self.values = _with_room(self.values, value_states, start, end)
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        self.cumulative_length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Tokens seen."""
        return self.cumulative_length

    def crop(self, tokens_to_remove: int) -> None:
        """Forget the last ``-tokens_to_remove`` tokens (the sign is Hugging Face's convention)."""
        if tokens_to_remove > 0:
            raise ValueError(f"tokens_to_remove is {tokens_to_remove}: allowed is a number <= 0")
        self.cumulative_length = max(0, self.cumulative_length + tokens_to_remove)


def _with_room(buffer: torch.Tensor, new: torch.Tensor, used: int, needed: int) -> torch.Tensor:
    if buffer.numel() and needed <= buffer.shape[-2]:
        return buffer
    capacity = -(-needed // GROWTH_TOKENS) * GROWTH_TOKENS
    grown = new.new_zeros((*new.shape[:2], capacity, new.shape[-1]))
    if used:
        grown[:, :, :used] = buffer[:, :, :used]
    return grown


class SparseCacheLayer(DynamicLayer):
    """Exactly `SparsePattern.kept_positions`. Keys are stored after RoPE, so that eviction re-rotates nothing."""

    is_sliding = True  # tells transformers to size masks by a full layer, and to keep this layer when offloading
    is_croppable = False
    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, pattern: SparsePattern) -> None:
        super().__init__()
        self.pattern = pattern
        self.cumulative_length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append new states; returns what the new tokens may attend to: the kept past, then the new tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old, seen = self.cumulative_length, self.cumulative_length + key_states.shape[-2]
        keys = torch.cat([self.keys, key_states], dim=-2) if old else key_states
        values = torch.cat([self.values, value_states], dim=-2) if old else value_states
        kept = self.pattern.kept_positions(seen)
        if old and len(kept) == keys.shape[-2]:  # nothing goes out of sight: all but the first token of a block
            self.keys, self.values = keys, values
        else:
            present = np.concatenate([self.pattern.kept_positions(old), np.arange(old, seen)])
            index = torch.from_numpy(np.searchsorted(present, kept)).to(keys.device)
            # index_select copies: a view would keep the whole prefill's keys alive
            self.keys, self.values = keys.index_select(-2, index), values.index_select(-2, index)
        self.cumulative_length = seen
        return keys, values

    def get_seq_length(self) -> int:
        """Tokens seen, evicted ones included."""
        return self.cumulative_length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """KV length and offset that Hugging Face's mask construction is told: as if nothing were evicted."""
        return self.cumulative_length + query_length, 0

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: evicted tokens cannot be restored."""
        raise ValueError("a sparse layer's cache cannot be cropped: evicted tokens cannot be restored")


class LongGenCache(Cache):
    """The cache to pass as ``past_key_values``; `generate` and ``use_cache=True`` make one by themselves.

    Args:
        config: of a converted model.
    """

    def __init__(self, config: PretrainedConfig) -> None:
        layout, pattern = hybrid_of(config)
        super().__init__(layers=[FullCacheLayer() if full else SparseCacheLayer(pattern) for full in layout.full])

    def nbytes(self) -> int:
        """Bytes of the tensors' storage: what the cache really occupies."""
        tensors = [t for layer in self.layers for t in (layer.keys, layer.values) if t is not None]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
