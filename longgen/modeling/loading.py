"""A model with all the weights of a checkpoint, or none: transformers fills what is missing with random numbers."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

from transformers import AutoModelForCausalLM

from longgen.foreign import reading
from longgen.modeling.conversion.source import CONFIG, FolderSource, check_generation_config
from longgen.modeling.conversion.weights import LAYER, check_complete, check_depth, find_weights


def load_complete(
    checkpoint: Path | str,
    otherwise: str,
    model_class: Any = AutoModelForCausalLM,
    where: object = None,
    **options: Any,
) -> Any:
    """What ``model_class.from_pretrained`` makes of a checkpoint, if nothing of it is missing or left over.

    Args:
        checkpoint: folder, or id of a hub repository.
        otherwise: what is to be done about a checkpoint that is damaged, for the message.
        model_class: of transformers, or ours.
        where: the checkpoint's name in messages; None for ``checkpoint`` itself.
        **options: more for ``from_pretrained``; only safetensors are read.

    Raises:
        ArtifactError: a tensor is missing, unexpected, of another shape or unreadable, or generation_config.json is
            damaged, which decides where answers end. A tied LM head is not missing.
        ConfigError: config.json has more layers than the weights.
    """
    where = where or checkpoint
    if Path(checkpoint).is_dir():
        source = FolderSource(Path(checkpoint))
        check_generation_config(source)
        with reading(str(where), otherwise):
            _check_depth(source)
    with reading(str(where), otherwise):
        model, loading_info = model_class.from_pretrained(
            checkpoint, **options | {"use_safetensors": True}, output_loading_info=True, ignore_mismatched_sizes=True
        )
    shapes = {name: (in_file, in_model) for name, in_file, in_model in loading_info["mismatched_keys"]}
    check_complete(str(where), loading_info["missing_keys"], loading_info["unexpected_keys"], shapes, otherwise)
    return model


def _check_depth(source: FolderSource) -> None:
    """Refuse a config of more layers than there are weights of, where they are named as ours are.

    A model of millions of layers would be built before one is missed.
    """
    if CONFIG not in source.sizes():  # a GGUF file brings its own, which is checked where it is read
        return
    layers = source.read_json(CONFIG).get("num_hidden_layers")
    tensors = list(chain.from_iterable(source.tensors(file) for file in find_weights(source).files))
    if isinstance(layers, int) and any(map(LAYER.match, tensors)):
        check_depth(layers, source.where, tensors)
