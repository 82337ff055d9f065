"""The causal LM on top of the hybrid: a thin head, and the cache that `generate` makes."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from transformers import GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.generation.configuration_utils import GenerationMode

from longgen.errors import ConfigError
from longgen.modeling.cache import LongGenCache
from longgen.modeling.configuration import head_groups_of
from longgen.modeling.mixin import LongGenMixin, become_hybrid


class LongGenCausalLM(LongGenMixin):
    """`forward` is the base's: it names ``labels``, ``logits_to_keep`` and the rest, as other people's tools expect."""

    decoder_class: ClassVar[type[PreTrainedModel]]
    model: Any

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        head_groups_of(config)  # an unusable layout is told before weights are made
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]
        become_hybrid(self.model, self.decoder_class)

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Cache | None = None,
        attention_mask: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As the base model's, but the mask stays 2-D; a decode step of fixed shapes gets none, since it would grow."""
        inputs = super().prepare_inputs_for_generation(  # type: ignore[misc]
            input_ids,
            next_sequence_length=next_sequence_length,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            **kwargs,
        )
        tokens = inputs["input_ids"] if inputs.get("input_ids") is not None else inputs["inputs_embeds"]
        fixed = getattr(past_key_values, "is_compileable", False)
        inputs["attention_mask"] = None if fixed and tokens.shape[1] == 1 else attention_mask
        return inputs

    def _prepare_cache_for_generation(
        self,
        generation_config: GenerationConfig,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> None:
        mask = model_kwargs.get("attention_mask")
        _check_last_tokens(mask)
        _check_room(model_kwargs.get("past_key_values"), mask, max_cache_length)
        early = generation_config.assistant_early_exit
        if early is not None and not 1 <= early < len(self.model.layers):
            raise ConfigError(f"assistant_early_exit is {early}: allowed are 1 to {len(self.model.layers) - 1} layers")
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
        config = self.config
        if config.num_hidden_layers != len(self.model.layers):
            # transformers lets a draft exit early by changing the config: the cache of the layers above stays empty
            config = copy.copy(config)
            config.num_hidden_layers = len(self.model.layers)
        cache = LongGenCache(config, **options)
        if generation_config.is_assistant or generation_mode == GenerationMode.ASSISTED_GENERATION:
            cache.activate_past_recording()
        model_kwargs["past_key_values"] = cache

    def _assisted_decoding(self, *args: Any, **kwargs: Any) -> Any:
        layers = self.config.num_hidden_layers
        try:
            return super()._assisted_decoding(*args, **kwargs)  # type: ignore[misc]
        finally:
            self.config.num_hidden_layers = layers  # a draft that exits early changes it, and left it so if it failed


def _check_room(cache: Cache | None, mask: torch.Tensor | None, tokens: int) -> None:
    """Raise ConfigError if a cache of a fixed size is too small: nobody counts once decoding is compiled."""
    if isinstance(cache, LongGenCache) and cache.max_length is not None:
        real = tokens if mask is None or mask.dim() != 2 else tokens - int((mask == 0).sum(1).min())
        if real > cache.max_length:
            raise ConfigError(
                f"past_key_values has max_length {cache.max_length}: prompt and new tokens are up to {real}, "
                "make one for so many"
            )


def _check_last_tokens(mask: torch.Tensor | None) -> None:
    """Raise ValueError if a prompt ends in padding: what would be continued is not its last token."""
    if mask is None or mask.dim() != 2:
        return
    padded = (mask[:, -1] == 0).nonzero().flatten().tolist()
    if padded:
        raise ValueError(
            f"attention_mask ends in 0 in rows {padded}: `generate` goes on after the last column, allowed is padding "
            "on the left (tokenizer.padding_side = 'left')"
        )
