"""The processes of a training run: one, or those that torchrun started."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from longgen.errors import ConfigError
from longgen.modeling.mixin import LongGenMixin
from longgen.training.parallel.ulysses import SequenceParallel

SEQUENCE, DATA = "sequence", "data"


@dataclass(frozen=True)
class Processes:
    """Who takes part in training, and which part of the work is this process's.

    Neighbouring ranks share the tokens of a row (they exchange most, so they belong on one machine); the groups of them
    take different rows; all of them together share weights, gradients and optimizer state (FSDP2).

    Attributes:
        rank: of this process.
        world: number of processes.
        sequence: how many share the tokens of a row.
        mesh: rows x tokens; None for a single process.
    """

    rank: int = 0
    world: int = 1
    sequence: int = 1
    mesh: DeviceMesh | None = None

    @property
    def data(self) -> int:
        """How many rows are in work at a time."""
        return self.world // self.sequence

    def rows(self, batch_size: int) -> slice:
        """This process's rows of a batch.

        Raises:
            ConfigError: the batch cannot be shared out evenly.
        """
        if batch_size % self.data:
            raise ConfigError(
                f"batch_size is {batch_size}: allowed are multiples of {self.data}, the groups of processes"
            )
        each = batch_size // self.data
        first = self.rank // self.sequence * each
        return slice(first, first + each)

    def tokens(self, length: int) -> slice:
        """This process's tokens of a row.

        Raises:
            ConfigError: the row cannot be shared out evenly.
        """
        if length % self.sequence:
            raise ConfigError(f"length is {length}: allowed are multiples of sequence_parallel {self.sequence}")
        each = length // self.sequence
        first = self.rank % self.sequence * each
        return slice(first, first + each)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.mesh is not None:
            dist.barrier()

    def mean_of_known(self, value: torch.Tensor) -> torch.Tensor:
        """Mean of ``value`` (scalar) over the processes where it is not NaN; NaN where it is for all."""
        if self.mesh is None:
            return value
        return self.total(value.nan_to_num(0.0)) / self.total((~value.isnan()).to(value.dtype))

    def whole_state(self, model: torch.nn.Module) -> dict[str, torch.Tensor] | None:
        """All weights of ``model`` in the main memory of the first process, and {} elsewhere; None for one process.

        A matrix that serves as embedding and as head is there once, as `save_pretrained` wants it.
        """
        if self.mesh is None:
            return None
        state: Any = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
        return {name: state[name] for name, _ in model.named_parameters() if name in state}

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Sum of ``value`` over all processes, without gradient."""
        value = value.detach().clone()
        if self.mesh is not None:
            dist.all_reduce(value)
        return value

    def share(self, model: Any, root: torch.nn.Module, compute_dtype: torch.dtype | None = None) -> None:
        """Prepare a hybrid, in place: its weights are sharded, and its attention exchanges tokens for heads.

        Args:
            model: a converted model; its weights are the same on all processes.
            root: the module that holds it and that training calls.
            compute_dtype: of weights and activations in the layers; gradients are reduced in float32. None leaves all
                as it is.

        Raises:
            ConfigError: the heads cannot be shared out evenly.
        """
        if self.mesh is None:
            return
        if self.sequence > 1:
            if not isinstance(model, LongGenMixin):
                raise ConfigError(f"sequence_parallel is {self.sequence}: allowed is 1 for a model that is no hybrid")
            config, group = model.config, self.mesh.get_group(SEQUENCE)
            exchange = SequenceParallel(group, config.num_attention_heads, config.num_key_value_heads)
            for layer in model.model.layers:
                layer.self_attn.sequence_parallel = exchange
        everyone = init_device_mesh(self.mesh.device_type, (self.world,))
        precision = MixedPrecisionPolicy(param_dtype=compute_dtype, reduce_dtype=torch.float32)
        for layer in model.model.layers:
            fully_shard(layer, mesh=everyone, mp_policy=precision)
        # weights of targets are among its inputs: they stay float32
        fully_shard(root, mesh=everyone, mp_policy=replace(precision, cast_forward_inputs=False))


def join_processes(sequence: int = 1, device: str = "cpu") -> Processes:
    """Take part in the run that torchrun started, or be its only process.

    Args:
        sequence: how many processes share the tokens of a row; divides their number.
        device: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: ``sequence`` does not divide the number of processes.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if sequence < 1 or world % sequence:
        raise ConfigError(f"sequence_parallel is {sequence}: allowed are divisors of the {world} processes")
    if world == 1:
        return Processes()
    if not dist.is_initialized():
        dist.init_process_group("gloo" if device == "cpu" else "nccl")
    mesh = init_device_mesh(device, (world // sequence, sequence), mesh_dim_names=(DATA, SEQUENCE))
    return Processes(dist.get_rank(), world, sequence, mesh)
