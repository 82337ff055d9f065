"""Layers for batches whose rows have the same length: exactly the tokens that later ones can see, and no more."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from longgen.cache_layout import chunked
from longgen.hybrid import HeadPattern
from longgen.modeling.attention_parts import AttentionPart
from longgen.modeling.cache.layer import PatternCacheLayer
from longgen.modeling.padding import TokenIndex


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


# While the past is recorded, a sparse layer holds so many of the last tokens for a `crop`: far more than a draft has
# (20 tokens by default), and few beside a long prompt, which arrives in one call with its first draft. Our choice.
DRAFT_TOKENS = 1024


class FullCacheLayer(PatternCacheLayer):
    """All tokens, in buffers [batch, KV heads, capacity, head_dim] whose capacity is a multiple of GROWTH_TOKENS."""

    is_croppable = True

    def __init__(self) -> None:
        super().__init__(HeadPattern())
        self.reserved = 0  # tokens to make room for at once

    def tensors(self) -> dict[str, torch.Tensor]:
        """As any layer's, without the room that is not used yet."""
        return {name: tensor[:, :, : self.cumulative_length] for name, tensor in super().tensors().items()}

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[TokenIndex] | None = None
    ) -> tuple[list[AttentionPart], None]:
        """Append; the part holds views of the buffers."""
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
        return [AttentionPart(self.keys[:, :, :end], self.values[:, :, :end], self.head_pattern, start)], None

    def why_not_crop(self, tokens: int) -> str | None:
        """Any number can be taken back."""
        return None

    def crop(self, tokens_to_remove: int) -> None:
        """Take the last tokens back; their room stays."""
        self.cumulative_length += tokens_to_remove


class SparseCacheLayer(PatternCacheLayer):
    """Exactly `HeadPattern.kept_positions`. Keys are stored after RoPE, so that eviction re-rotates nothing.

    While the past is recorded it holds what it held at the last `crop`, and all tokens since.
    """

    is_croppable = True

    def __init__(self, head_pattern: HeadPattern) -> None:
        super().__init__(head_pattern)
        self._complete_from = 0  # nothing given from this position on has been evicted

    def _held_positions(self) -> np.ndarray:
        visible = self.head_pattern.kept_positions(self._complete_from)
        if self._complete_from == self.cumulative_length:
            return visible
        return np.concatenate([visible, np.arange(self._complete_from, self.cumulative_length)])

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[TokenIndex] | None = None
    ) -> tuple[list[AttentionPart], None]:
        """Append and evict; the part holds what the new tokens may attend to: the kept past, then the new tokens."""
        assert rows is None
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        old, seen = self.cumulative_length, self.cumulative_length + key_states.shape[-2]
        keys = torch.cat([self.keys, key_states], dim=-2) if old else key_states
        values = torch.cat([self.values, value_states], dim=-2) if old else value_states
        before, visible = self._held_positions(), self.head_pattern.kept_positions(old)
        self.cumulative_length = seen
        self._complete_from = max(self._complete_from, seen - DRAFT_TOKENS) if self.record_past else seen
        after = self._held_positions()
        if old and len(after) == keys.shape[-2]:  # nothing goes out of sight: all but the first token of a block
            self.keys, self.values = keys, values
        else:
            self.keys, self.values = _select(keys, values, np.concatenate([before, np.arange(old, seen)]), after)
        if len(before) > len(visible):  # some of the past was held for `crop` alone
            new = np.arange(old, seen)
            keys, values = _select(keys, values, np.concatenate([before, new]), np.concatenate([visible, new]))
        return [AttentionPart(keys, values, self.head_pattern, old)], None

    def why_not_crop(self, tokens: int) -> str | None:
        """None if all is held that the token before the last ``tokens`` tokens could see."""
        length = self.cumulative_length - tokens
        if np.isin(self.head_pattern.kept_positions(length), self._held_positions()).all():
            return None
        return (
            f"{tokens} tokens are to go, and some that were in sight before them are evicted: allowed are as many as "
            f"were given since `activate_past_recording` and the last `crop`, at most {DRAFT_TOKENS}"
        )

    def crop(self, tokens_to_remove: int) -> None:
        """Take the last tokens back and evict down to `HeadPattern.kept_positions`."""
        before = self._held_positions()
        self.cumulative_length += tokens_to_remove
        self._complete_from = self.cumulative_length
        after = self._held_positions()
        if len(after) < len(before):
            self.keys, self.values = _select(self.keys, self.values, before, after)

    def evict(self) -> None:
        """Evict down to `HeadPattern.kept_positions`."""
        self.crop(0)

    def restore(self, tensors: dict[str, torch.Tensor], length: int) -> None:
        """As any layer's."""
        super().restore(tensors, length)
        self._complete_from = length

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._complete_from = 0


def _select(
    keys: torch.Tensor, values: torch.Tensor, present: np.ndarray, positions: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor]:
    """Those tokens of ``keys`` and ``values``, at the ascending positions ``present``, that are at ``positions``."""
    index = _on_device(np.searchsorted(present, positions), keys.device)
    # index_select copies: a view would keep the whole prefill's keys alive
    return keys.index_select(-2, index), values.index_select(-2, index)
