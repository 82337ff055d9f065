"""Weights of a checkpoint into a sharded model: no process ever holds more than its share of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as distributed
from safetensors import SafetensorError
from torch.distributed.checkpoint import HuggingFaceStorageReader
from torch.distributed.checkpoint.api import CheckpointException
from transformers import AutoConfig, AutoModelForCausalLM

from longgen.errors import ArtifactError
from longgen.foreign import last_line, reading
from longgen.modeling.conversion.safetensors_file import read_header
from longgen.modeling.conversion.source import FolderSource
from longgen.modeling.conversion.tying import EMBEDDINGS, HEAD, is_tied, tensor_files
from longgen.modeling.conversion.weights import check_depth, find_weights, tensors_of
from longgen.training.adapters import base_name
from longgen.training.checkpoint import without_warnings


def empty_model(folder: Path) -> tuple[Any, torch.dtype]:
    """The model of a checkpoint without its weights, on the meta device in float32; and the dtype of its weights.

    LM head and embeddings are tied where they are in the model that transformers loads (`is_tied`).

    Raises:
        ArtifactError: ``folder`` is not a model folder, or damaged; a tensor is missing, unexpected or of another
            shape.
        ConfigError: config.json has more layers than the weights.
    """
    if not (folder / "config.json").is_file():
        raise ArtifactError(f"{folder} has no config.json: `longgen convert` makes the model to extend")
    advice = "`longgen convert --overwrite` makes the model anew"
    with reading(folder / "config.json", advice):
        config = AutoConfig.from_pretrained(folder)
    dtype = config.dtype or torch.float32  # before a model is made of it, which writes down its own
    try:
        config.tie_word_embeddings = is_tied(folder, config)
        files = find_weights(FolderSource(folder)).files
        tensors = {name: info for file in files for name, info in read_header(folder / file).tensors.items()}
    except (ArtifactError, SafetensorError) as error:
        raise _unreadable(folder, error) from error
    check_depth(config.num_hidden_layers, str(folder), tensors)
    with reading(folder / "config.json", advice), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    tensors_of(model).check(str(folder), tensors, advice)
    return model, dtype


def load_weights(model: Any, folder: Path, device: torch.device) -> None:
    """Fill an `empty_model`, sharded or not, with the weights in ``folder``; collective if it is sharded.

    Every process reads what it holds, and casts it to the parameters' dtype.

    Args:
        model: as it came from `empty_model`; adapters and FSDP2 may have been added since.
        folder: checkpoint in safetensors.
        device: where the weights are kept.

    Raises:
        ArtifactError: a tensor is unreadable.
    """
    model.to_empty(device=device)
    model.tie_weights()
    # not in any checkpoint: frequencies, computed from the config
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config).to(device)
    parameters = {base_name(name): parameter.detach() for name, parameter in model.named_parameters()}
    state = {name: parameter for name, parameter in parameters.items() if name is not None}
    if model.config.tie_word_embeddings and EMBEDDINGS not in tensor_files(folder):
        state[HEAD] = state.pop(EMBEDDINGS)
    try:
        with without_warnings():
            distributed.load(
                state,
                storage_reader=HuggingFaceStorageReader(str(folder)),
                no_dist=not torch.distributed.is_initialized(),
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError, CheckpointException) as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: BaseException) -> ArtifactError:
    return ArtifactError(f"{folder} cannot be read ({last_line(error)}): `longgen convert --overwrite` makes it anew")
