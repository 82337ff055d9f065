"""Model classes for every supported base family, made by one mixin; registered with transformers' Auto classes."""

from __future__ import annotations

import functools

from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from longgen.errors import ConfigError
from longgen.modeling.attention import register_attention
from longgen.modeling.guard import GuardedConfig
from longgen.modeling.mixin import LongGenMixin

BASE_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")


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
    config_class = type(f"LongGen{base_config.__name__}", (GuardedConfig, base_config), fields)
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
