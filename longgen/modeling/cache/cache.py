"""`LongGenCache`: the layers of a model's KV cache together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import Cache

from longgen.attention.autocast import autocasted, check_one_dtype
from longgen.errors import ConfigError
from longgen.hybrid import HeadGroup, HeadPattern
from longgen.modeling.cache.exact import FullCacheLayer, SparseCacheLayer
from longgen.modeling.cache.files import load_cache, save_cache
from longgen.modeling.cache.grouped import GroupedCacheLayer
from longgen.modeling.cache.layer import PatternCacheLayer
from longgen.modeling.cache.quantized import QuantizedFullCacheLayer
from longgen.modeling.cache.slots import SlotCacheLayer
from longgen.modeling.configuration import head_groups_of
from longgen.modeling.padding import TokenIndex


class LongGenCache(Cache):
    """The cache to pass as ``past_key_values``; `generate` and ``use_cache=True`` make one by themselves.

    By default it holds, per sparse head, exactly the tokens that later ones can see, and full heads grow in chunks.
    Rows of different lengths (padding) make it turn to slots by itself.

    Args:
        config: of a converted model.
        max_length: fix all shapes for sequences of up to so many tokens, so that torch.compile and CUDA graphs can
            capture decoding.
        full_bits: 8 or 4 quantises the keys and values of full heads; None stores them as they are. Not together with
            ``max_length`` or padding.

    Raises:
        ConfigError: an impossible number, or both options.
    """

    def __init__(self, config: PretrainedConfig, max_length: int | None = None, full_bits: int | None = None) -> None:
        if max_length is not None and (type(max_length) is not int or max_length < 1):
            raise ConfigError(f"max_length is {max_length!r}: allowed is a whole number >= 1, or None")
        if max_length is not None and full_bits is not None:
            raise ConfigError(f"full_bits is {full_bits!r}: allowed is None with max_length {max_length}")
        self.head_groups = head_groups_of(config)
        self.config = config
        self.max_length, self.full_bits = max_length, full_bits
        self.padded_rows: Sequence[TokenIndex] | None = None  # of the call under way; the model's forward sets it
        self.reduces_another = False  # whether a model of another layout is to see, on purpose, what this one holds
        self._mask: torch.Tensor | None = None  # of the tokens so far, as far as one was given
        super().__init__(layers=[_make_layer(groups, self._new_layer) for groups in self.head_groups])

    def _new_layer(self, head_pattern: HeadPattern) -> PatternCacheLayer:
        if self.max_length is not None:
            return SlotCacheLayer(head_pattern, self.max_length)
        if head_pattern.pattern is not None:
            return SparseCacheLayer(head_pattern)
        return FullCacheLayer() if self.full_bits is None else QuantizedFullCacheLayer(self.full_bits)

    def parts(self) -> Iterator[tuple[str, PatternCacheLayer]]:
        """Name and cache layer of every group of heads, from the bottom up."""
        for index, layer in enumerate(self.layers):
            groups = layer.layers if isinstance(layer, GroupedCacheLayer) else [layer]
            for group, part in enumerate(groups):
                yield f"{index}.{group}", part

    def nbytes(self) -> int:
        """Bytes of the storage of keys and values: what the cache really occupies."""
        tensors = [t for _, part in self.parts() for name, t in part.tensors().items() if name not in SLOT_TABLES]
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    def reserve(self, length: int) -> None:
        """Make room for ``length`` tokens in full heads at once: growing copies, and holds old and new meanwhile."""
        for _, part in self.parts():
            if isinstance(part, FullCacheLayer):
                part.reserved = length

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Any, Any]:
        """Append the states of a layer; returns `AttentionPart`s for longgen attention.

        What is stored has the dtype of the first states: under autocast, autocast's.

        Raises:
            ValueError: keys and values of different dtypes outside of autocast, or wider ones than what is stored.
        """
        key_states, value_states = autocasted(key_states, value_states)
        check_one_dtype(key=key_states, value=value_states)
        layer = self.layers[layer_idx]
        if layer.is_initialized and key_states.dtype != layer.dtype:
            if torch.promote_types(key_states.dtype, layer.dtype) != layer.dtype:
                raise ValueError(
                    f"new keys and values are {key_states.dtype}: this cache holds {layer.dtype} and allowed is "
                    "that; where it was filled under torch.autocast, go on under it"
                )
            key_states, value_states = key_states.to(layer.dtype), value_states.to(layer.dtype)
        return super().update(key_states, value_states, layer_idx, rows=self.padded_rows)

    # ------------------------------------------------------------ going back
    def activate_past_recording(self) -> None:
        """From here on hold what `crop` needs; assisted decoding calls it.

        Until the next `crop` sparse heads hold all tokens given since, at most
        `longgen.modeling.cache.exact.DRAFT_TOKENS`, besides those in sight.

        Raises:
            ValueError: the cache cannot be cropped: quantised, or with slots.
        """
        if not self.is_croppable:
            part = next(part for _, part in self.parts() if not part.is_croppable)
            raise ValueError(
                f"assisted decoding takes tokens back, and this cache cannot be cropped: {part.why_not_crop(0)}; use "
                "LongGenCache(config), or leave past_key_values and cache_implementation out"
            )
        super().activate_past_recording()

    def crop(self, tokens_to_remove: int) -> None:
        """Take the last tokens back, and evict what was held for that alone.

        Args:
            tokens_to_remove: as transformers counts: 0 or negative. At most as many as were given since
                `activate_past_recording` and the last `crop`; further back only where nothing that is then in sight
                was evicted. 0 evicts what is held for going back.

        Raises:
            ValueError: a positive number, or tokens that cannot be taken back. Nothing has changed then.
        """
        tokens, length = -tokens_to_remove, int(self.get_seq_length())
        if not 0 <= tokens <= length:
            raise ValueError(f"tokens_to_remove is {tokens_to_remove}: allowed are {-length}, all tokens, to 0")
        parts = [part for _, part in self.parts() if part.is_initialized]
        for part in parts:
            if tokens and (problem := part.why_not_crop(tokens)):
                raise ValueError(f"the cache cannot be cropped: {problem}")
        for part in parts:
            if tokens:
                part.crop(tokens_to_remove)
            else:
                part.evict()

    def save(self, path: Path | str) -> None:
        """Write the cache to a safetensors file, atomically: a long prompt need not be read twice.

        Raises:
            ArtifactError: nothing is cached yet.
        """
        save_cache(self, path)

    @classmethod
    def load(cls, path: Path | str, config: PretrainedConfig, device: torch.device | str = "cpu") -> LongGenCache:
        """Read what `save` wrote.

        Args:
            path: the file.
            config: of the model that computed the cache; shapes, layout and pattern are checked, the weights are not.
            device: where to put it.

        Raises:
            ArtifactError: no such file, not a cache, or of another model.
        """
        return load_cache(cls, path, config, device)

    # ------------------------------------------------------------ rows of different lengths
    @property
    def in_slots(self) -> bool:
        """Whether rows may differ in length."""
        return isinstance(next(self.parts())[1], SlotCacheLayer)

    @property
    def max_cache_len(self) -> int:
        """``max_length``, or -1 for none: by this name PEFT asks any cache, for prefix tuning."""
        return -1 if self.max_length is None else self.max_length

    def row_lengths(self) -> torch.Tensor | int:
        """Real tokens of every row so far, [batch, 1]; one number where none can differ."""
        part = next(self.parts())[1]
        if not isinstance(part, SlotCacheLayer):
            return part.get_seq_length()
        return 0 if part.seen is None else part.seen[:, None]

    def check_mask(self, mask: torch.Tensor, before: int) -> None:
        """Remember which tokens are padding, and refuse to have been told otherwise.

        Args:
            mask: [batch, tokens cached + new] booleans.
            before: tokens cached, padding included.

        Raises:
            ValueError: of the tokens cached, others are hidden than when they were given.
        """
        earlier, batch = self._mask, len(mask)
        if earlier is not None and len(earlier) == batch and earlier.shape[1] <= before:
            same = torch.equal(mask[:, : earlier.shape[1]], earlier)
        else:
            same = True
        if not same or bool((mask[:, :before].sum(1, keepdim=True) != self.row_lengths()).any()):
            raise ValueError("attention_mask hides other tokens than it did when the cache was filled")
        self._mask = mask

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self._mask = None

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Row i becomes the former row ``beam_idx[i]`` (beam search)."""
        super().reorder_cache(beam_idx)
        self._mask = None if self._mask is None else self._mask[beam_idx.to(self._mask.device)]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row ``repeats`` times."""
        super().batch_repeat_interleave(repeats)
        self._mask = None if self._mask is None else self._mask.repeat_interleave(repeats, dim=0)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows ``indices``."""
        super().batch_select_indices(indices)
        self._mask = None if self._mask is None else self._mask[indices.to(self._mask.device)]

    def use_slots(self) -> None:
        """Make room for rows of different lengths; what is stored stays.

        Raises:
            ConfigError: the cache is quantised, or records the past.
        """
        if self.in_slots:
            return
        if self.full_bits is not None:
            raise ConfigError(f"full_bits is {self.full_bits}: allowed is None with padded batches")
        if any(part.record_past for _, part in self.parts()):
            raise ConfigError(
                "attention_mask hides a token and the cache is to be cropped, as assisted decoding does: allowed is "
                "one of both, or past_key_values=DynamicCache(), which evicts nothing"
            )
        old = dict(self.parts())
        self.layers = [_make_layer(groups, SlotCacheLayer) for groups in self.head_groups]
        for name, part in self.parts():
            if old[name].is_initialized:
                part.take_over(old[name])


# What a slot layer stores besides keys and values: some bytes per token.
SLOT_TABLES = ("positions", "seen")


def _make_layer(groups: Sequence[HeadGroup], make_layer: Any) -> Any:
    return make_layer(groups[0].head_pattern) if len(groups) == 1 else GroupedCacheLayer(groups, make_layer)
