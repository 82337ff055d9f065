"""`LongGenMixin`: what turns a Llama-like Hugging Face causal LM into a hybrid."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GenerationConfig, PretrainedConfig
from transformers.cache_utils import Cache

from longgen.attention import FULL_KERNELS
from longgen.attention.call import AttentionCall
from longgen.attention.dispatch import choose_backend
from longgen.attention.full import choose_full_kernel
from longgen.errors import ConfigError
from longgen.modeling.attention import IMPLEMENTATIONS
from longgen.modeling.cache import LongGenCache
from longgen.modeling.configuration import head_groups_of, hybrid_of
from longgen.modeling.packing import FLASH_ARGUMENTS, packed_documents, positions_in_documents
from longgen.modeling.padding import positions_in_rows, real_tokens
from longgen.modeling.pieces import Kernels
from longgen.modeling.shifted import GROUPS, check_groups


class LongGenMixin:
    """Our attention and our cache; weights and modules stay the base's."""

    config: PretrainedConfig
    training: bool
    model: Any

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        # Not saved in config.json by transformers, so that a reloaded model would fall back to dense attention.
        if config._attn_implementation not in IMPLEMENTATIONS:
            config._attn_implementation = "longgen"
        groups = head_groups_of(config)
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        for layer, own in zip(self.model.layers, groups, strict=True):
            layer.self_attn.head_groups = own
            layer.self_attn.full_kernel = "auto"
            layer.self_attn.sequence_parallel = None  # see `longgen.training.parallel`
            layer.self_attn.shifted_groups = None  # see `use_shifted_groups`

    def use_full_attention(self, kernel: str) -> None:
        """Choose which code computes full heads; that of sparse heads is ``attn_implementation``.

        Args:
            kernel: a name in `longgen.attention.FULL_KERNELS`, or ``auto``, as after loading.

        Raises:
            ValueError: unknown name.
        """
        if kernel != "auto" and kernel not in FULL_KERNELS:
            raise ValueError(f"full attention kernel is {kernel!r}: allowed are auto, {', '.join(FULL_KERNELS)}")
        for layer in self.model.layers:
            layer.self_attn.full_kernel = kernel

    def use_shifted_groups(self, groups: int | None = GROUPS) -> None:
        """Train with LongLoRA's shifted groups of tokens in place of full attention (`longgen.modeling.shifted`).

        In evaluation mode attention stays full. Not stored: what is saved is an ordinary full model.

        Args:
            groups: how many a row is cut into; None trains with full attention again.

        Raises:
            ConfigError: a model with sparse layers or a single KV head, or fewer than 2 groups.
        """
        if groups is not None:
            layout = hybrid_of(self.config).layout
            if layout.num_sparse:
                raise ConfigError(
                    f"layout has {layout.num_full} of {layout.num_layers} layers full: shifted groups need all"
                )
            check_groups(groups, self.config.num_key_value_heads)
        for layer in self.model.layers:
            layer.self_attn.shifted_groups = groups

    def attention_kernels(self, dtype: torch.dtype | None = None) -> dict[str, str]:
        """Which code computes whole prompts on the model's device, with ``auto`` resolved: for a result's provenance.

        Args:
            dtype: of queries and keys; None for that of the weights.

        Returns:
            ``sparse``: a name in `longgen.attention.BACKENDS`; ``full``: a name in `longgen.attention.FULL_KERNELS`.
        """
        attention = self.model.layers[0].self_attn
        asked = Kernels(IMPLEMENTATIONS[self.config._attn_implementation], attention.full_kernel)
        weight = attention.q_proj.weight
        heads, kv_heads = self.config.num_attention_heads, self.config.num_key_value_heads
        query, key = (
            torch.empty(1, count, 16, attention.head_dim, dtype=dtype or weight.dtype, device=weight.device)
            for count in (heads, kv_heads)
        )
        call = AttentionCall(hybrid_of(self.config).pattern, attention.scaling, 0, (0,) * kv_heads)
        return {
            "sparse": choose_backend(query, key, call) if asked.sparse == "auto" else asked.sparse,
            "full": choose_full_kernel(query, key) if asked.full == "auto" else asked.full,
        }

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        **kwargs: Any,
    ) -> Any:
        """As the base model's. A `LongGenCache` is made where one is wanted and none is given.

        Args:
            input_ids: [batch, q_len] int64.
            attention_mask: [batch, tokens cached + q_len], 0 for padding. Every row computes what it would compute
                alone: padding may stand left or right, and takes no position and no place in the cache.
            position_ids: [batch, q_len], rising by one. Where they do not in the only row of a batch without a cache,
                another packed document begins, and documents do not attend across.
            past_key_values: a `LongGenCache`, or without padding any cache that keeps all tokens.
            inputs_embeds: [batch, q_len, hidden size], instead of ``input_ids``.
            use_cache: default as the config says, but not while training.
            logits_to_keep: how many of the last tokens get logits, or which ones; 0 for all. `generate` asks for one,
                but only of a model that names this argument.
            **kwargs: as the base model's. ``cu_seq_lens_q`` and ``max_length_q`` say where packed documents stand, as
                for flash attention (`DataCollatorWithFlattening`), and spare finding out from ``position_ids``.

        Raises:
            ValueError: padding between the real tokens of a row, packed documents with a cache or in several rows, a
                mask that does not fit, or padding with another cache.
        """
        given = input_ids if input_ids is not None else inputs_embeds
        if given is None:
            raise ValueError("input_ids and inputs_embeds are both None: give one of them")
        packed = None
        if attention_mask is None or FLASH_ARGUMENTS[0] in kwargs:
            packed = packed_documents(given, position_ids, kwargs)
        if packed is not None:
            if use_cache or past_key_values is not None:
                raise ValueError("documents are packed and a cache is wanted: allowed is one of both")
            if position_ids is None:
                position_ids = positions_in_documents(packed, given.shape[1])
            return super().forward(  # type: ignore[misc]
                input_ids=input_ids,
                # keeps transformers from finding the documents once more, and refusing them for us
                attention_mask=torch.ones(given.shape[:2], dtype=torch.bool, device=given.device),
                position_ids=position_ids,
                inputs_embeds=inputs_embeds,
                use_cache=False,
                logits_to_keep=logits_to_keep,
                packed=packed,
                **kwargs,
            )
        if use_cache is None:
            use_cache = bool(self.config.use_cache) and not self.training
        if use_cache and past_key_values is None:
            past_key_values = LongGenCache(self.config)
        new = None if attention_mask is None else _mask_of_new_tokens(attention_mask, given, past_key_values)
        if position_ids is not None and position_ids.shape[-1] > 1:
            _check_positions(position_ids, new)
        rows = None if new is None else real_tokens(new)
        if isinstance(past_key_values, LongGenCache):
            if rows is not None:
                past_key_values.use_slots()
            past_key_values.padded_rows = rows
        elif rows is not None:
            if past_key_values is not None:
                raise ValueError(f"past_key_values is {type(past_key_values).__name__}: padding needs a LongGenCache")
            kwargs["padded_rows"] = rows
        seen = past_key_values.row_lengths() if isinstance(past_key_values, LongGenCache) else 0
        if rows is not None or (position_ids is None and isinstance(seen, torch.Tensor)):
            position_ids = positions_in_rows(given, rows, seen, position_ids)
        return super().forward(  # type: ignore[misc]
            input_ids=input_ids,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def prepare_inputs_for_generation(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """As the base model's, but the mask stays 2-D; a decode step of fixed shapes gets none, since it would grow."""
        inputs = super().prepare_inputs_for_generation(input_ids, **kwargs)  # type: ignore[misc]
        given = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
        fixed = getattr(inputs.get("past_key_values"), "is_compileable", False)
        inputs["attention_mask"] = None if fixed and given.shape[1] == 1 else attention_mask
        return inputs

    def _prepare_cache_for_generation(
        self,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> None:
        if model_kwargs.get("past_key_values") is not None or generation_config.use_cache is False:
            super()._prepare_cache_for_generation(  # type: ignore[misc]
                generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
            )
            return
        options: dict[str, Any] = {}
        match generation_config.cache_implementation:
            case None | "dynamic":
                pass
            case "static":
                options["max_length"] = max(max_cache_length, generation_config.max_cache_len or 0)
            case "quantized":
                options["full_bits"] = (generation_config.cache_config or {}).get("nbits", 8)
            case other:
                raise ValueError(f"cache_implementation is {other!r}: allowed are 'dynamic', 'static' and 'quantized'")
        model_kwargs["past_key_values"] = LongGenCache(self.config, **options)


def _mask_of_new_tokens(mask: torch.Tensor, given: torch.Tensor, cache: Cache | None) -> torch.Tensor:
    """The part of a 2-D attention mask that is about this call's tokens, as booleans."""
    before = 0 if cache is None else int(cache.get_seq_length())
    expected = (given.shape[0], before + given.shape[1])
    if tuple(mask.shape) != expected:
        raise ValueError(f"attention_mask has shape {list(mask.shape)}: allowed is {list(expected)}, batch and tokens")
    mask = mask.to(given.device).bool()
    seen = cache.row_lengths() if isinstance(cache, LongGenCache) else before
    if bool((mask[:, :before].sum(1, keepdim=True) != seen).any()):
        raise ValueError("attention_mask hides other tokens than it did when the cache was filled")
    return mask[:, before:]


def _check_positions(position_ids: torch.Tensor, new: torch.Tensor | None) -> None:
    gap = position_ids.diff(dim=-1) != 1
    if new is not None:
        gap = gap & new[:, 1:] & new[:, :-1]  # padding may have any position
    if bool(gap.any()):
        raise ValueError(
            "position_ids do not rise by one: allowed without a cache and without a mask (packed documents)"
        )
