"""From a sharded model to one Hugging Face folder, a file at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

from longgen.files import write_json
from longgen.names import FILE_BYTES
from longgen.training.adapters import base_name, merged_weight
from longgen.training.parallel.processes import Processes


def export_model(model: Any, folder: Path, dtype: torch.dtype, processes: Processes) -> None:
    """Write config.json and safetensors of ``model``; called by all processes, written by the first.

    Args:
        model: sharded or not; adapters are merged into the weights.
        folder: that exists and is empty.
        dtype: of the weights written.
        processes: who holds the model.
    """
    names = [name for parameter, _ in model.named_parameters() if (name := base_name(parameter)) is not None]
    shapes = {base_name(name): parameter.shape for name, parameter in model.named_parameters()}
    planned = {name: torch.empty(shapes[name], dtype=dtype, device="meta") for name in names}
    split = split_torch_state_dict_into_shards(planned, max_shard_size=FILE_BYTES)
    for file, held in split.filename_to_tensors.items():
        tensors = {}
        for name in held:
            weight = merged_weight(model, name)  # collective
            if processes.rank == 0:
                tensors[name] = weight.detach().to("cpu", dtype).contiguous()
        if processes.rank == 0:
            save_file(tensors, folder / file, metadata={"format": "pt"})
    if processes.rank > 0:
        return
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": dict(sorted(split.tensor_to_filename.items()))}
        write_json(folder / "model.safetensors.index.json", index)
    model.config.dtype = dtype
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
