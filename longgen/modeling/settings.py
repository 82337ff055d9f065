"""What the settings of a base model's config may be: the keys that every family has, one by one.

A hybrid takes its base's config over. Each setting must then do in the hybrid what it does in the base, or be refused
before anything is written. The sizes and numbers of a model are in `longgen.modeling.ranges`.
"""

from __future__ import annotations

import inspect
from typing import Any

from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from longgen.errors import require
from longgen.modeling.ranges import Range

DTYPES = ("bfloat16", "float16", "float32", "float64")


def _anything(why: str) -> Range:
    return Range(lambda _: True, f"anything, since {why}")


def _none(why: str) -> Range:
    return Range(lambda value: value is None, f"none, since {why}")


def _off(why: str) -> Range:
    return Range(lambda value: not value, f"false or none, since {why}")


_DTYPE = Range(lambda value: value is None or value in DTYPES, f"null, or one of {', '.join(DTYPES)}")
_PARTS = _none("a model of several parts has other weights")
_SWITCH = Range(lambda value: value is None or isinstance(value, bool), "true, false or null")
# only the head of a classifier asks for these, which a hybrid has from its base family
_LABELS = Range(lambda value: value is None or isinstance(value, dict), "a mapping, or null")
_PROBLEMS = (None, "regression", "single_label_classification", "multi_label_classification")
_ORIGIN = _anything("it tells where a model comes from, and no code of the checkpoint is run")
_KERNEL = _anything("it chooses code for the base's layers; attention of a hybrid is ours, and is not asked for here")
_REMOVED = _off("transformers 5 does not have it")

# The keys that transformers itself reads, whatever the family; a test compares this list with its config class.
SETTINGS: dict[str, Range] = {
    # what a call computes and returns
    "output_hidden_states": _SWITCH,  # a hybrid's layers are recorded as the base's are; single ones, by the call
    "tie_last_hidden_states": _SWITCH,
    "output_attentions": _off("our attention never has its weights"),
    "_output_attentions": _off("our attention never has its weights"),
    "return_dict": Range(
        lambda value: value is True or value is None,
        "true: with false in the config transformers' causal LMs fail; a call may ask for return_dict=False",
    ),
    "use_return_dict": _none("transformers 5 calls it return_dict"),
    "torchscript": _REMOVED,
    "is_causal": Range(lambda value: value is True, "true, or no such key, since longgen attention is causal"),
    "use_cache": _SWITCH,
    "gradient_checkpointing": _SWITCH,
    "chunk_size_feed_forward": _anything("no family that qualifies asks for it"),
    "attention_chunk_size": _none("transformers' caches would forget what is before a chunk"),
    "kv_sharing_modes": _none("every layer of a hybrid has keys and values of its own"),
    # models of another kind
    "is_decoder": _anything("all families that qualify are decoders, and do not ask for it"),
    "is_encoder_decoder": _off("a hybrid is a decoder"),
    "add_cross_attention": _off("a hybrid is a decoder"),
    "cross_attention_hidden_size": _off("a hybrid is a decoder"),
    "tie_encoder_decoder": _off("a hybrid is a decoder"),
    "pruned_heads": _off("all heads of a hybrid have weights"),
    "text_config": _PARTS,
    "text_encoder": _PARTS,
    "decoder": _PARTS,
    "generator": _PARTS,
    "per_layer_config": _off("all layers of the base model must have the same shape"),
    # how weights are loaded
    "quantization_config": Range(
        lambda value: value is None,
        "none: convert the checkpoint with the original weights, and quantise the hybrid",
    ),
    "dtype": _DTYPE,
    "torch_dtype": _DTYPE,
    "transformers_weights": _none("conversion reads the files that are loaded without it"),
    "fusion_config": _none("it replaces modules when a model is loaded; give it to from_pretrained"),
    "distributed_config": _anything("it is not kept: how a hybrid is distributed is said when it is loaded"),
    "attn_implementation": _KERNEL,
    "experts_implementation": _KERNEL,
    # heads for other tasks
    "id2label": _LABELS,
    "label2id": _LABELS,
    "problem_type": Range(lambda value: value in _PROBLEMS, f"null, or one of {', '.join(_PROBLEMS[1:])}"),
    # where it comes from
    "architectures": Range(
        lambda value: value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value)),
        "a list of names of classes, or null",
    ),
    "transformers_version": _ORIGIN,
    "name_or_path": _ORIGIN,
    "_commit_hash": _ORIGIN,
    "auto_map": _ORIGIN,
    # ours
    "longgen": Range(
        lambda _: False, "none in a base model's config, since `longgen convert` writes this key; remove it"
    ),
}
# What config classes are made of: a value in a file would take its place.
MACHINERY = ("attribute_map", "sub_configs_defaults")


def check_settings(values: dict[str, Any]) -> None:
    """Check the settings of a base model.

    Args:
        values: its config, as a mapping with the ``model_type`` of a family that qualifies.

    Raises:
        ConfigError: one that would not do in a hybrid what it does in the base.
    """
    for key, range_ in SETTINGS.items():
        if key in values:
            require(range_.holds(values[key]), key, values[key], range_.allowed)
    config_class = CONFIG_MAPPING[values["model_type"]]
    for key, value in values.items():
        allowed = f"no such key, which is the name of a part of transformers' {config_class.__name__}"
        require(not _is_part(config_class, key), key, value, allowed)


def _is_part(config_class: type, key: str) -> bool:
    part = inspect.getattr_static(config_class, key, None)
    is_read_only = isinstance(part, property) and part.fset is None
    return key in MACHINERY or is_read_only or isinstance(part, classmethod | staticmethod) or inspect.isroutine(part)
