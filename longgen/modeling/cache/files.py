"""A KV cache in a file, for prompts that are used again: tensors in safetensors, everything else in its header."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import PretrainedConfig

from longgen.errors import ArtifactError
from longgen.files import atomic_file

if TYPE_CHECKING:
    from longgen.modeling.cache.cache import LongGenCache

FORMAT = "longgen-kv-cache-1"


def _model(config: PretrainedConfig) -> dict[str, Any]:
    """What a cache depends on, besides the weights."""
    return {
        "model_type": config.model_type,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
        "rope_parameters": config.rope_parameters,
        **config.longgen,
    }


def save_cache(cache: LongGenCache, path: Path | str) -> None:
    """See `LongGenCache.save`."""
    if int(cache.get_seq_length()) == 0:
        raise ArtifactError(f"{path} is not written: the cache is empty")
    for _, part in cache.parts():
        part.evict()
    tensors = {
        f"{name}.{key}": tensor.contiguous() for name, part in cache.parts() for key, tensor in part.tensors().items()
    }
    header = {
        "model": _model(cache.config),
        "length": int(cache.get_seq_length()),
        "max_length": cache.max_length,
        "full_bits": cache.full_bits,
        "in_slots": cache.in_slots,
    }
    with atomic_file(path) as temporary:
        save_file(tensors, temporary, {"format": FORMAT, "longgen": json.dumps(header)})


def load_cache(
    cls: type[LongGenCache], path: Path | str, config: PretrainedConfig, device: torch.device | str
) -> LongGenCache:
    """See `LongGenCache.load`."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ArtifactError(f"{path}: format is {metadata.get('format')!r}: allowed is {FORMAT!r}")
            header = json.loads(metadata["longgen"])
            # clones are aligned as fresh tensors are: with others matrix products differ in their last bits
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    except FileNotFoundError:
        raise ArtifactError(f"{path} is missing: `LongGenCache.save` makes it") from None
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as error:
        raise ArtifactError(f"{path} is not a readable KV cache ({error}): save it anew") from None
    # through JSON, so that tuples compare as the lists they became
    for key, value in json.loads(json.dumps(_model(config))).items():
        if header["model"].get(key) != value:
            raise ArtifactError(f"{path}: {key} is {header['model'].get(key)!r}: this model has {value!r}")
    cache = cls(config, header["max_length"], header["full_bits"])
    if header["in_slots"]:
        cache.use_slots()
    for name, part in cache.parts():
        part_tensors = {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}
        part.restore(part_tensors, header["length"])
    return cache
