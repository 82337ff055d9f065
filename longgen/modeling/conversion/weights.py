"""The weights of a checkpoint: which files they are in, and whether they are complete and what the model needs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

from longgen.errors import ArtifactError, require
from longgen.files import fingerprint_files
from longgen.modeling.conversion.safetensors_file import TensorInfo
from longgen.modeling.conversion.source import FolderSource, Source

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
INDEX_SUFFIX = ".index.json"

# What the model's own tensors may be; quantised ones need scales, and a config that says so.
WEIGHT_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)

# Buffers that Llama saved until 2023 and that transformers ignores, since it computes them from the config.
IGNORED = re.compile(r"rotary_emb\.inv_freq$")

LAYER = re.compile(r"(?:model\.layers|blk)\.(\d+)\.")


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold the weights of a checkpoint.

    Attributes:
        files: the shards, ascending.
        index: name of the index file; None where there is one shard.
        weight_map: tensor -> shard, as the index says; empty without one.
    """

    files: tuple[str, ...]
    index: str | None
    weight_map: dict[str, str]


def find_weights(source: Source) -> WeightFiles:
    """The safetensors of ``source``.

    Files beside the named ones (``consolidated.safetensors``, other precisions) are left out, as transformers does.

    Raises:
        ArtifactError: none, as where all are pickled, or an index that is unusable or names missing files.
    """
    names, index = source.sizes(), SAFETENSORS + INDEX_SUFFIX
    if SAFETENSORS in names:
        return WeightFiles((SAFETENSORS,), None, {})
    if index in names:
        weight_map = _read_index(source, index)
        missing = sorted(set(weight_map.values()) - set(names))
        if missing:
            raise ArtifactError(f"{source.where}/{index} names {some_of(missing)}, which is missing: get the rest")
        return WeightFiles(tuple(sorted(set(weight_map.values()))), index, weight_map)
    pickled = next((name for name in (PICKLE, PICKLE + INDEX_SUFFIX) if name in names), None)
    if pickled is not None:
        raise ArtifactError(
            f"{source.where} has no *.safetensors, only {pickled}: a pickle can carry code and is not read. Get the "
            "model as safetensors, or, where you trust the file, make them with transformers: "
            "AutoModelForCausalLM.from_pretrained(SRC).save_pretrained(NEW), and the tokenizer likewise"
        )
    others = sorted(name for name in names if name.endswith((".safetensors", ".bin", ".pt", ".pth", ".gguf")))
    beside = f" (there is {some_of(others)})" if others else ""
    raise ArtifactError(
        f"{source.where} has no *.safetensors that transformers would load{beside}: allowed are {SAFETENSORS}, or "
        f"shards with {index}; a .gguf file is converted by its own path"
    )


def fingerprint_weights(source: FolderSource) -> str:
    """Short SHA-256 of the contents of a folder's weights: the same after a conversion that keeps their dtype.

    Raises:
        ArtifactError: as `find_weights`.
    """
    return fingerprint_files(source.folder / name for name in find_weights(source).files)


def _read_index(source: Source, index: str) -> dict[str, str]:
    weight_map: Any = source.read_json(index).get("weight_map")
    is_map = isinstance(weight_map, dict) and weight_map and all(isinstance(file, str) for file in weight_map.values())
    if not is_map or any("/" in file or "\\" in file for file in weight_map.values()):
        raise ArtifactError(f"{source.where}/{index} has no weight_map of tensors to files beside it: get it anew")
    return dict(weight_map)


def check_places(where: str, weights: WeightFiles, shards: Mapping[str, Collection[str]]) -> None:
    """Check that every tensor is in the one shard that the index says.

    Args:
        where: the checkpoint, for the message.
        weights: what the index says.
        shards: shard -> the tensors in it.

    Raises:
        ArtifactError: a tensor is not where it should be, or in two shards.
    """
    for tensor, file in weights.weight_map.items():
        if tensor not in shards[file]:
            raise ArtifactError(f"{where}/{file} has no {tensor}: {weights.index} says that it is there")
    first_file: dict[str, str] = {}
    for file, tensors in shards.items():
        for tensor in tensors:
            if first_file.setdefault(tensor, file) != file:
                raise ArtifactError(
                    f"{where}: {tensor} is in {first_file[tensor]} and in {file}: allowed is one of them"
                )


def check_complete(
    where: str,
    missing: Iterable[str],
    unexpected: Iterable[str],
    mismatched: Mapping[str, tuple[Collection[int], Collection[int]]],
    otherwise: str = "",
) -> None:
    """Raise ArtifactError unless a checkpoint has the tensors of its model, and no others.

    Args:
        where: the checkpoint, for the message.
        missing: tensors that it does not have; with a tied one, neither of the two.
        unexpected: those that the model does not have.
        mismatched: those of another shape: that in the checkpoint, and that of the model.
        otherwise: what is to be done, for the message.
    """
    shapes = [f"{name} {list(shape)} instead of {list(expected)}" for name, (shape, expected) in mismatched.items()]
    for kind, names in (("misses", missing), ("has unexpected", unexpected), ("has wrong shapes:", shapes)):
        if some := some_of(sorted(names)):
            advice = f"; {otherwise}" if otherwise else ""
            raise ArtifactError(f"{where} {kind} {some}: allowed is what its config.json describes{advice}")


@dataclass(frozen=True)
class ModelTensors:
    """What a model needs: the shape of every tensor, and those that are copies of another one (a tied LM head)."""

    shapes: dict[str, tuple[int, ...]]
    tied: dict[str, str]

    def check(self, where: str, tensors: Mapping[str, TensorInfo], otherwise: str = "") -> None:
        """Compare with the tensors that a checkpoint has; ``otherwise`` as for `check_complete`.

        Raises:
            ArtifactError: some are missing, unexpected, of another shape, or no floating-point numbers.
        """
        # of two tied tensors either one will do
        twins = self.tied | {source: target for target, source in self.tied.items()}
        missing = [name for name in self.shapes.keys() - tensors.keys() if twins.get(name) not in tensors]
        unexpected = [name for name in tensors.keys() - self.shapes.keys() if not IGNORED.search(name)]
        common = sorted(self.shapes.keys() & tensors.keys())
        wrong = [name for name in common if tensors[name].shape != self.shapes[name]]
        shapes = {name: (tensors[name].shape, self.shapes[name]) for name in wrong}
        check_complete(where, missing, unexpected, shapes, otherwise)
        others = [f"{name} as {tensors[name].dtype}" for name in common if tensors[name].dtype not in WEIGHT_DTYPES]
        if others:
            raise ArtifactError(
                f"{where} has {some_of(others)}: allowed are {', '.join(map(str, WEIGHT_DTYPES))}; convert the "
                "checkpoint with the original weights"
            )


def check_depth(layers: int, where: str, tensors: Iterable[str]) -> None:
    """Check that the weights hold as many layers as a model is to have, before it is built with so many.

    Args:
        layers: the config's ``num_hidden_layers``.
        where: the weights, for the message.
        tensors: their names, as in safetensors or GGUF files.

    Raises:
        ConfigError: they hold fewer.
    """
    stored = len({match[1] for match in map(LAYER.match, tensors) if match})
    allowed = f"up to {stored}, as many as {where} holds weights of"
    require(layers <= stored, "num_hidden_layers", layers, allowed)


def model_tensors(model_class: type[PreTrainedModel], config: PretrainedConfig) -> ModelTensors:
    """What a model of ``config`` needs, without memory for it."""
    with torch.device("meta"):
        return tensors_of(model_class(config))


def tensors_of(model: Any) -> ModelTensors:
    """What ``model`` needs; it may be on the meta device."""
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return ModelTensors(shapes, dict(model.all_tied_weights_keys))


def some_of(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
