"""How a model is spread over processes: its weights by FSDP2, the tokens of a row by Ulysses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy, fully_shard

from longgen.errors import ConfigError
from longgen.modeling.causal_lm import LongGenCausalLM
from longgen.training.parallel.processes import SEQUENCE, Processes
from longgen.training.parallel.ulysses import SequenceParallel


def share_tokens(model: Any, processes: Processes) -> None:
    """Let the attention of ``model`` exchange tokens for heads, in place, where processes share the tokens of a row.

    Raises:
        ConfigError: ``model`` is no hybrid, or its heads cannot be shared out evenly.
    """
    if processes.sequence == 1 or processes.mesh is None:
        return
    if not isinstance(model, LongGenCausalLM):
        raise ConfigError(f"sequence_parallel is {processes.sequence}: allowed is 1 for a model that is no hybrid")
    config, group = model.config, processes.mesh.get_group(SEQUENCE)
    exchange = SequenceParallel(group, config.num_attention_heads, config.num_key_value_heads)
    for layer in model.base_model.layers:
        layer.self_attn.sequence_parallel = exchange


def shard_weights(
    root: torch.nn.Module,
    layers: torch.nn.ModuleList,
    processes: Processes,
    compute_dtype: torch.dtype | None = None,
    offload: bool = False,
) -> None:
    """Shard all weights below ``root`` over all processes, in place; without a mesh they stay as they are.

    Args:
        root: the module that training calls.
        layers: the decoder layers in it, of which one after another is gathered.
        processes: who takes part.
        compute_dtype: of weights and activations in the layers; None leaves both as they are. Gradients are added up in
            float32, or in more where the weights are more.
        offload: keep weights, gradients and optimizer state in main memory.
    """
    if processes.mesh is None:
        return
    mesh = init_device_mesh(processes.mesh.device_type, (processes.world,))
    reduce_dtype = None if next(root.parameters()).dtype == torch.float64 else torch.float32
    precision = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=reduce_dtype)
    # pinned memory is what a GPU copies from
    policy = CPUOffloadPolicy(pin_memory=processes.device.type == "cuda") if offload else OffloadPolicy()
    for layer in layers:
        fully_shard(layer, mesh=mesh, mp_policy=precision, offload_policy=policy)
    # weights of targets are among its inputs: they stay float32
    outer = replace(precision, cast_forward_inputs=False)
    fully_shard(root, mesh=mesh, mp_policy=outer, offload_policy=policy)
