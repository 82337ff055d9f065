"""The hybrid itself: the decoder of a base family, whose layers attend by our pattern and fill our cache."""

from __future__ import annotations

from typing import Any

import torch
from transformers import PretrainedConfig
from transformers.cache_utils import Cache

from longgen.hybrid import HeadGroup
from longgen.modeling.attention import assign_heads
from longgen.modeling.cache import LongGenCache
from longgen.modeling.cache.foreign import check_cache
from longgen.modeling.configuration import head_groups_of
from longgen.modeling.mixin import LongGenMixin
from longgen.modeling.packing import FLASH_ARGUMENTS, packed_documents, positions_in_documents
from longgen.modeling.padding import POSITIONS_DO_NOT_RISE, positions_in_rows, real_tokens
from longgen.modeling.traced import document_numbers


class LongGenDecoder(LongGenMixin):
    """Takes padding, packed documents, caches and chunks; the models with a head on top only hand them through."""

    training: bool
    layers: Any
    gradient_checkpointing: bool

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        head_groups_of(config)  # an unusable layout is told before weights are made
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        self.prepare_attention()

    def prepare_attention(self) -> None:
        """Tell every layer what its heads see; once, when the modules are there."""
        for layer, groups in zip(self.layers, head_groups_of(self.config), strict=True):
            assign_heads(layer.self_attn, groups)
            layer.self_attn.full_kernel = "auto"
            layer.self_attn.sequence_parallel = None  # see `longgen.training.parallel`
            layer.self_attn.shifted_groups = None  # see `use_shifted_groups`

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the base model's. A `LongGenCache` is made where one is wanted and none is given.

        Args:
            input_ids: [batch, q_len] int64.
            attention_mask: [batch, tokens cached + q_len], 0 for padding. Every row computes what it would compute
                alone: padding may stand anywhere, and takes no position and no place in our cache.
            position_ids: [batch, q_len], rising by one. Where they do not, in a call without a cache and without a
                mask, another packed document begins, and documents do not attend across.
            past_key_values: a `LongGenCache`, or a cache of transformers that holds all tokens and nothing else
                (`longgen.modeling.cache.foreign`).
            inputs_embeds: [batch, q_len, hidden size], instead of ``input_ids``.
            use_cache: default as the config says, but not while training.
            **kwargs: as the base model's. ``cu_seq_lens_q`` and ``max_length_q`` say where packed documents stand, as
                for flash attention (`DataCollatorWithFlattening`), and spare finding out from ``position_ids``;
                ``packed`` is the same as `longgen.attention.PackedDocuments`.

        Raises:
            ValueError: attention weights are wanted, packed documents with a cache, a mask that does not fit, or a
                cache in training with gradient checkpointing.
        """
        if (input_ids is None) == (inputs_embeds is None):
            values = "both None" if input_ids is None else "both given"
            raise ValueError(f"input_ids and inputs_embeds are {values}: give one of them")
        inputs: torch.Tensor = input_ids if input_ids is not None else inputs_embeds  # type: ignore[assignment]
        if kwargs.get("output_attentions", self.config.output_attentions):
            raise ValueError("output_attentions is True: allowed is False, since our attention never has its weights")
        requires_cache, use_cache = use_cache, self._wants_cache(use_cache, past_key_values)
        if torch.compiler.is_compiling() and not use_cache and past_key_values is None:
            position_ids, arguments = _traced_arguments(inputs, attention_mask, position_ids, kwargs)
        else:
            # of a row that processes share, each has a part: its positions begin anywhere, its documents are in kwargs
            shared = self.layers[0].self_attn.sequence_parallel is not None
            position_ids, arguments = _packed_arguments(inputs, attention_mask, position_ids, kwargs, shared)
            if arguments:
                if requires_cache or past_key_values is not None:
                    raise ValueError("documents are packed and a cache is wanted: allowed is one of both")
                use_cache = False
            else:
                if use_cache and past_key_values is None:
                    past_key_values = LongGenCache(self.config)
                check_cache(past_key_values, self._head_groups(), self.config)
                position_ids, arguments = _padded_arguments(inputs, attention_mask, position_ids, past_key_values)
        return super().forward(  # type: ignore[misc]
            input_ids=input_ids,
            attention_mask=None,  # our attention follows from the pattern and from where the tokens stand
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **arguments,
            **kwargs,
        )

    def _head_groups(self) -> list[tuple[HeadGroup, ...]]:
        """Of every layer that runs: fewer than there are while a draft exits early."""
        return [layer.self_attn.head_groups for layer in self.layers[: self.config.num_hidden_layers]]

    def _wants_cache(self, use_cache: bool | None, cache: Cache | None) -> bool:
        if self.training and self.gradient_checkpointing:
            # the layers would run once more in the backward pass, and fill the cache twice
            if cache is not None:
                raise ValueError(
                    "past_key_values is given while training with gradient checkpointing: allowed is one of both; "
                    "model.eval() before `generate`"
                )
            return False
        if use_cache is None:
            use_cache = bool(self.config.use_cache) and not self.training
        return use_cache


def _packed_arguments(
    inputs: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    kwargs: dict[str, Any],
    bounds_only: bool,
) -> tuple[torch.Tensor | None, dict[str, Any]]:
    """Position ids, and ``packed`` as an argument of our attention; none where no row holds more than one document.

    ``bounds_only``: documents are those that ``kwargs`` name; positions are not looked at.
    """
    packed, has_bounds = kwargs.pop("packed", None), FLASH_ARGUMENTS[0] in kwargs
    if has_bounds and attention_mask is not None and not bool(attention_mask.all()):
        raise ValueError("attention_mask has zeros and cu_seq_lens_q is given: allowed is one of both")
    if packed is None and (has_bounds or (attention_mask is None and not bounds_only)):
        packed = packed_documents(inputs, position_ids, kwargs)
    if packed is None:
        return position_ids, {}
    if position_ids is None:
        position_ids = positions_in_documents(packed, inputs.shape[1])
    return position_ids, {"packed": packed}


def _padded_arguments(
    inputs: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    cache: Cache | None,
) -> tuple[torch.Tensor | None, dict[str, Any]]:
    """Position ids, and the arguments that tell our attention of padding; a `LongGenCache` is told too."""
    mask = None if attention_mask is None else _checked_mask(attention_mask, inputs, cache)
    before = 0 if mask is None else mask.shape[1] - inputs.shape[1]
    new = None if mask is None else mask[:, before:]
    looked_at = mask is None and cache is None  # for documents, of which there are none
    if position_ids is not None and position_ids.shape[-1] > 1 and not looked_at:
        _check_positions(position_ids, new)
    rows = None if new is None else real_tokens(new)
    arguments: dict[str, Any] = {}
    first: torch.Tensor | int = 0
    if isinstance(cache, LongGenCache):
        if rows is not None:
            cache.use_slots()
        cache.padded_rows = rows
        first = cache.row_lengths()
    elif mask is not None and before:  # this cache keeps padding too, and attention leaves it out
        seen_rows = real_tokens(mask)
        if seen_rows is not None:
            rows = rows or [slice(0, inputs.shape[1])] * len(inputs)
            first = mask[:, :before].sum(1, keepdim=True)
            arguments["seen_rows"] = seen_rows
    if rows is not None:
        arguments["padded_rows"] = rows
    if rows is not None or (position_ids is None and isinstance(first, torch.Tensor)):
        position_ids = positions_in_rows(inputs, new, first, position_ids)
    return position_ids, arguments


def _traced_arguments(
    inputs: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None,
    kwargs: dict[str, Any],
) -> tuple[torch.Tensor | None, dict[str, Any]]:
    """The same without looking at a number, for a graph under construction (`longgen.modeling.traced`)."""
    bounds, *_ = [kwargs.pop(name, None) for name in FLASH_ARGUMENTS]
    if attention_mask is None and position_ids is None and bounds is None:
        return None, {}
    if attention_mask is not None:
        attention_mask = _checked_mask(attention_mask, inputs, None)
    documents = document_numbers(inputs, attention_mask, position_ids, bounds)
    if bounds is not None and position_ids is None:
        begins = documents.diff(dim=1, prepend=documents[:, :1] - 1) != 0
        index = torch.arange(inputs.shape[1], device=inputs.device)
        position_ids = index - torch.where(begins, index, 0).cummax(1).values
    elif attention_mask is not None:
        position_ids = positions_in_rows(inputs, attention_mask, 0, position_ids)
    return position_ids, {"documents": documents}


def _checked_mask(mask: Any, inputs: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """A 2-D attention mask, of the tokens in the cache and those of this call, as booleans."""
    before = 0 if cache is None else int(cache.get_seq_length())
    expected = (inputs.shape[0], before + inputs.shape[1])
    if not isinstance(mask, torch.Tensor) or tuple(mask.shape) != expected:
        problem = f"has shape {list(mask.shape)}" if isinstance(mask, torch.Tensor) else f"is {type(mask).__name__}"
        raise ValueError(f"attention_mask {problem}: allowed is {list(expected)}, batch and tokens, 0 for padding")
    if mask.is_floating_point() and not torch.compiler.is_compiling() and bool((mask < 0).any()):
        raise ValueError("attention_mask is to be added to scores: allowed is one of 0 for padding and 1")
    mask = mask.to(inputs.device).bool()
    if isinstance(cache, LongGenCache):
        cache.check_mask(mask, before)
    return mask


def _check_positions(position_ids: torch.Tensor, new: torch.Tensor | None) -> None:
    steps = position_ids.diff(dim=-1) != 1
    if new is not None:  # padding may have any position, and takes none
        expected = positions_in_rows(new, new, 0, position_ids)  # one row of positions may be for all rows
        steps = (position_ids != expected) & new
    if bool(steps.any()):
        raise ValueError(POSITIONS_DO_NOT_RISE)
