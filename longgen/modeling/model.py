"""Model classes for every supported base family, made by one mixin; registered with transformers' Auto classes."""

from __future__ import annotations

import functools
import re
from types import ModuleType
from typing import Any

import wrapt
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from longgen.modeling.attention import register_attention
from longgen.modeling.causal_lm import LongGenCausalLM
from longgen.modeling.configuration import hybrid_config_class
from longgen.modeling.decoder import LongGenDecoder
from longgen.modeling.mixin import LongGenMixin
from longgen.shapes import FAMILIES, HYBRID_PREFIX

BASE_FAMILIES = FAMILIES

# What can stand on the decoder, and what makes it ours. The models for a task make their decoder by `AutoModel`.
KINDS = {
    AutoModel: LongGenDecoder,
    AutoModelForCausalLM: LongGenCausalLM,
    AutoModelForSequenceClassification: LongGenMixin,
    AutoModelForTokenClassification: LongGenMixin,
}


@functools.cache
def longgen_classes(family: str) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
    """The config and causal LM class of the hybrid made from ``family``, a ``model_type`` such as ``llama``.

    Raises:
        ConfigError: a family that is not supported.
    """
    config_class, models = _all_classes(family)
    return config_class, models[AutoModelForCausalLM]


@functools.cache
def _all_classes(family: str) -> tuple[type[PretrainedConfig], dict[Any, type[PreTrainedModel]]]:
    """The config class of a family's hybrids, and their model classes by Auto class."""
    config_class = hybrid_config_class(family)
    base_config = CONFIG_MAPPING[family]
    models: dict[Any, type[PreTrainedModel]] = {}
    for auto, mixin in KINDS.items():
        if base_config not in auto._model_mapping:
            continue  # not every family has models for every task
        base_model = auto._model_mapping[base_config]
        # attention weights are the one output that our attention does not have
        outputs = {key: how for key, how in (base_model._can_record_outputs or {}).items() if key != "attentions"}
        members = {"config_class": config_class, "_can_record_outputs": outputs, "__module__": __name__}
        if auto is AutoModelForCausalLM:
            members["decoder_class"] = models[AutoModel]
        models[auto] = type(f"LongGen{base_model.__name__}", (mixin, base_model), members)
    for model_class in models.values():
        globals()[model_class.__name__] = (
            model_class  # importable by name, as pickling and inspection expect of classes
        )
    return config_class, models


@functools.cache
def register_models() -> None:
    """Register attention, configs and models of all families with transformers, and with PEFT once it is imported.

    Trainer and pipelines know what a model is for by the name of its class in the tables of the Auto classes, which
    registering leaves alone: with label smoothing Trainer would train a hybrid to say the token that it reads.
    """
    register_attention()
    for family in BASE_FAMILIES:
        config_class, models = _all_classes(family)
        AutoConfig.register(config_class.model_type, config_class)
        for auto, model_class in models.items():
            auto.register(config_class, model_class)
            auto._model_mapping._model_mapping[config_class.model_type] = model_class.__name__
    wrapt.register_post_import_hook(_add_peft_defaults, "peft.utils.constants")


def _add_peft_defaults(constants: ModuleType) -> None:
    """Give every hybrid the entries of its family in PEFT's tables, which are keyed by ``model_type``.

    So PEFT adapts in a hybrid, when not told, what it adapts in the family; where it knows no default for one, its
    hybrid has none either.

    Args:
        constants: the module ``peft.utils.constants``.
    """
    for name, table in vars(constants).items():
        if re.fullmatch(r"TRANSFORMERS_MODELS_TO_\w+_MODULES_MAPPING", name):
            table |= {f"{HYBRID_PREFIX}{family}": table[family] for family in BASE_FAMILIES if family in table}
