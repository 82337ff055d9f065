"""Layers for batches whose rows have the same length: exactly the tokens that later ones can see, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from longgen.cache_layout import chunked
from longgen.hybrid import Sight
from longgen.modeling.cache.layer import SightCacheLayer
from longgen.modeling.pieces import Piece


def with_room(buffer: torch.Tensor | None, like: torch.Tensor, used: int, capacity: int) -> torch.Tensor:
    """``buffer`` [batch, KV heads, at least capacity, head_dim], grown if need be; its first ``used`` tokens are kept.

    ``like`` has the shape of new states.
    """
    if buffer is not None and capacity <= buffer.shape[-2]:
        return buffer
    grown = like.new_zeros((*like.shape[:2], capacity, like.shape[-1]))
    if buffer is not None and used:
        grown[:, :, :used] = buffer[:, :, :used]
    return grown


def _on_device(indices: np.ndarray, device: torch.device) -> torch.Tensor:
    """``indices`` on ``device``: a GPU's work is not waited for, as copying from memory that is not pinned would."""
    tensor = torch.from_numpy(indices)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


class FullCacheLayer(SightCacheLayer):
    """All tokens, in buffers [batch, KV heads, capacity, head_dim] whose capacity is a multiple of GROWTH_TOKENS."""

    def __init__(self) -> None:
        super().__init__(Sight())
        self.reserved = 0  # tokens to make room for at once

    def tensors(self) -> dict[str, torch.Tensor]:
        """As any layer's, without the room that is not used yet."""
        return {name: tensor[:, :, : self.cumulative_length] for name, tensor in super().tensors().items()}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[slice] | None = None
    ) -> tuple[list[Piece], None]:
        """Append; the pieces hold views of the buffers."""
        assert rows is None
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, end = self.cumulative_length, self.cumulative_length + key_states.shape[-2]
        capacity = chunked(max(end, self.reserved))
        self.keys = with_room(self.keys, key_states, start, capacity)
        self.values = with_room(self.values, value_states, start, capacity)
        self.keys[:, :, start:end] = key_states
        self.values[:, :, start:end] = value_states
        self.cumulative_length = end
        return [Piece(self.keys[:, :, :end], self.values[:, :, :end], self.sight, start)], None


class SparseCacheLayer(SightCacheLayer):
    """Exactly `Sight.kept_positions`. Keys are stored after RoPE, so that eviction re-rotates nothing."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[slice] | None = None
    ) -> tuple[list[Piece], None]:
        """Append and evict; the piece holds what the new tokens may attend to: the kept past, then the new tokens."""
        assert rows is None
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old, seen = self.cumulative_length, self.cumulative_length + key_states.shape[-2]
        keys = torch.cat([self.keys, key_states], dim=-2) if old else key_states
        values = torch.cat([self.values, value_states], dim=-2) if old else value_states
        kept = self.sight.kept_positions(seen)
        if old and len(kept) == keys.shape[-2]:  # nothing goes out of sight: all but the first token of a block
            self.keys, self.values = keys, values
        else:
            present = np.concatenate([self.sight.kept_positions(old), np.arange(old, seen)])
            index = _on_device(np.searchsorted(present, kept), keys.device)
            # index_select copies: a view would keep the whole prefill's keys alive
            self.keys, self.values = keys.index_select(-2, index), values.index_select(-2, index)
        self.cumulative_length = seen
        return [Piece(keys, values, self.sight, old)], None
