"""Model classes for every supported base family, made by one mixin; registered with transformers' Auto classes."""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from longgen.errors import ConfigError
from longgen.modeling.attention import IMPLEMENTATIONS, register_attention
from longgen.modeling.cache import LongGenCache

BASE_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


class LongGenMixin:
    """Turns a Llama-like causal LM into a hybrid: our attention and our cache; weights and modules stay the base's."""

    config: PretrainedConfig

    def __init__(self, config: PretrainedConfig, *args: Any, **kwargs: Any) -> None:
        # Not saved in config.json by transformers, so that a reloaded model would fall back to dense attention.
        if config._attn_implementation not in IMPLEMENTATIONS:
            config._attn_implementation = "longgen"
        super().__init__(config, *args, **kwargs)  # type: ignore[call-arg]

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: LongGenCache | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Any:
        """As the base model's; ``use_cache=True`` without a cache makes a `LongGenCache`.

        Raises:
            ValueError: left padding, or positions that do not rise by one (packed documents).
        """
        if position_ids is not None and position_ids.shape[-1] > 1:
            _check_positions(position_ids, attention_mask)
        if use_cache and past_key_values is None:
            past_key_values = LongGenCache(self.config)
        return super().forward(  # type: ignore[misc]
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **kwargs,
        )

    def _prepare_cache_for_generation(
        self, generation_config: GenerationConfig, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> None:
        if model_kwargs.get("past_key_values") is None and generation_config.use_cache is not False:
            implementation = generation_config.cache_implementation
            if implementation not in (None, "dynamic"):
                raise ValueError(f"cache_implementation is {implementation!r}: a longgen model brings its own cache")
            model_kwargs["past_key_values"] = LongGenCache(self.config)
        else:
            super()._prepare_cache_for_generation(  # type: ignore[misc]
                generation_config, model_kwargs, *args, **kwargs
            )


def _check_positions(position_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> None:
    # transformers looks for packed documents only where there is no cache: with one they would attend to each other.
    gap = position_ids.diff(dim=-1) != 1
    if attention_mask is not None and attention_mask.ndim == 2:
        gap = gap & attention_mask[:, -position_ids.shape[-1] :][:, 1:].bool()  # padding may have any position
    if bool(gap.any()):
        raise ValueError("position_ids do not rise by one: packed positions are not supported by longgen attention")


@functools.cache
def longgen_classes(family: str) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
    """The config and model class of the hybrid made from ``family``, a Hugging Face ``model_type`` such as ``llama``.

    Raises:
        ConfigError: a family that is not supported.
    """
    if family not in BASE_FAMILIES:
        raise ConfigError(f"model_type is {family!r}: allowed are {', '.join(BASE_FAMILIES)}")
    base_config = CONFIG_MAPPING[family]
    base_model = MODEL_FOR_CAUSAL_LM_MAPPING[base_config]
    fields = {
        "model_type": f"longgen_{family}",
        "longgen": None,
        "__annotations__": {"longgen": dict | None},
        "__module__": __name__,
    }
    config_class = type(f"LongGen{base_config.__name__}", (base_config,), fields)
    model_class = type(
        f"LongGen{base_model.__name__}",
        (LongGenMixin, base_model),
        {"config_class": config_class, "__module__": __name__},
    )
    # importable by name, as pickling and inspection expect of classes
    globals()[config_class.__name__] = config_class
    globals()[model_class.__name__] = model_class
    return config_class, model_class


@functools.cache
def register_models() -> None:
    """Register attention, configs and models of all families with transformers; once."""
    register_attention()
    for family in BASE_FAMILIES:
        config_class, model_class = longgen_classes(family)
        AutoConfig.register(config_class.model_type, config_class)
        AutoModelForCausalLM.register(config_class, model_class)
