"""What all layers of our KV cache share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from transformers.cache_utils import CacheLayerMixin

from longgen.hybrid import HeadPattern
from longgen.modeling.attention_parts import AttentionPart
from longgen.modeling.padding import TokenIndex


class PatternCacheLayer(CacheLayerMixin):
    """Base of a cache layer whose KV heads all have the same pattern.

    `update` returns `AttentionPart`s in the place of keys, and None in that of values: what longgen attention takes.

    Attributes:
        head_pattern: of these heads.
        cumulative_length: tokens given, padding included.
        record_past: whether what only a `crop` can bring back into sight is held, up to the next `crop`. transformers
            looks for this name, and sets it.
    """

    TENSORS: ClassVar[tuple[str, ...]] = ("keys", "values")  # all with the batch as their first dimension
    is_croppable = False
    keys: Any  # None before the first update
    values: Any
    cumulative_length: Any

    def __init__(self, head_pattern: HeadPattern) -> None:
        super().__init__()
        self.head_pattern = head_pattern
        # tells transformers to keep a sparse layer, which is small, on the device when it offloads the others
        self.is_sliding = head_pattern.pattern is not None
        self.cumulative_length = 0
        self.record_past = False

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Remember where states live. Called with the first ones."""
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, rows: Sequence[TokenIndex] | None = None
    ) -> tuple[list[AttentionPart], None]:
        """Append states, and say what the queries of the same tokens may attend to.

        Args:
            key_states: [batch, KV heads, new, head_dim], after RoPE.
            value_states: like ``key_states``.
            rows: for every row of a padded batch its real tokens.
        """
        raise NotImplementedError

    def get_seq_length(self) -> int:
        """Tokens given: evicted ones and padding included."""
        return self.cumulative_length if self.is_initialized else 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """KV length and offset that Hugging Face's mask construction is told: as if nothing were evicted."""
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1

    # ------------------------------------------------------------ going back
    def why_not_crop(self, tokens: int) -> str | None:
        """Why the last ``tokens`` tokens cannot be taken back, if none can why that is; None if they can."""
        return "what it evicts is gone"

    def activate_past_recording(self) -> None:
        """From here on hold what a `crop` needs.

        Raises:
            ValueError: the layer cannot be cropped.
        """
        if not self.is_croppable:
            raise ValueError(f"the cache cannot be cropped: {self.why_not_crop(0)}")
        self.record_past = True

    def crop(self, tokens_to_remove: int) -> None:
        """Take the last ``-tokens_to_remove`` tokens back, and `evict`. `LongGenCache.crop` has checked that it can.

        Raises:
            ValueError: the layer cannot be cropped.
        """
        raise ValueError(f"the cache cannot be cropped: {self.why_not_crop(-tokens_to_remove)}")

    def evict(self) -> None:
        """Let go of what is held for `crop` alone."""

    # ------------------------------------------------------------ tensors
    def tensors(self) -> dict[str, torch.Tensor]:
        """Name -> tensor of all that is stored; empty before the first update."""
        if not self.is_initialized:
            return {}
        return {name: tensor for name in self.TENSORS if (tensor := getattr(self, name)) is not None}

    def restore(self, tensors: dict[str, torch.Tensor], length: int) -> None:
        """Hold what `tensors` of a layer of the same kind gave, with ``length`` as its `get_seq_length`."""
        self.lazy_initialization(tensors["keys"], tensors["values"])
        for name in self.TENSORS:
            setattr(self, name, tensors.get(name))
        self.cumulative_length = length

    def _replace_tensors(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        for name, tensor in self.tensors().items():
            setattr(self, name, function(tensor))

    def reset(self) -> None:
        """Forget everything."""
        for name in self.TENSORS:
            setattr(self, name, None)
        self.is_initialized = False
        self.cumulative_length = 0

    def offload(self) -> None:
        """Move to the CPU."""
        self._replace_tensors(lambda tensor: tensor.to("cpu", non_blocking=True))

    def prefetch(self) -> None:
        """Move back to the device."""
        self._replace_tensors(lambda tensor: tensor.to(self.device, non_blocking=True))

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Row i becomes the former row ``beam_idx[i]`` (beam search)."""
        self._replace_tensors(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row ``repeats`` times."""
        self._replace_tensors(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows ``indices``."""
        self._replace_tensors(lambda tensor: tensor[indices])
