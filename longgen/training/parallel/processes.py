"""The processes of a training run: one, or those that torchrun or Slurm started."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from longgen.config import SetupSettings
from longgen.errors import ConfigError
from longgen.hardware import require_gpu

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
        mesh: rows x tokens; None for a single process that needs no FSDP2.
        device: of this process.
    """

    rank: int = 0
    world: int = 1
    sequence: int = 1
    mesh: DeviceMesh | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def data(self) -> int:
        """How many rows are in work at a time."""
        return self.world // self.sequence

    def rows(self, batch_size: int) -> range:
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
        return range(first, first + each)

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
        if self.world > 1:
            dist.barrier()

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Sum of ``value`` over all processes, without gradient."""
        value = value.detach().clone()
        if self.world > 1:  # one process asks nothing of NCCL, which need not work there
            dist.all_reduce(value)
        return value

    def largest(self, value: int) -> int:
        """Largest ``value`` of all processes."""
        if self.world == 1:
            return value
        tensor = torch.tensor(value, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def broadcast(self, value: Any) -> Any:
        """The first process's ``value``, plain data, on all of them."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]


def leave_processes() -> None:
    """Take leave of the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()


def join_processes(setup: SetupSettings | None = None, sharded: bool = False) -> Processes:
    """Take part in the run that torchrun or Slurm started, or be its only process.

    Args:
        setup: how many processes there are to be, and of what kind; None for the default one.
        sharded: use FSDP2 in a single process, too, as a lower precision or offloading needs it.

    Raises:
        ConfigError: another number of processes was started, they cannot be shared out, or there is no GPU.
    """
    setup = setup or SetupSettings()
    world, sequence = int(os.environ.get("WORLD_SIZE", "1")), setup.sequence_parallel
    if setup.processes not in (None, world):
        raise ConfigError(
            f"processes is {setup.processes} in the set-up, and {world} are running: "
            "`python -m longgen.training.launch` starts as many"
        )
    if world % sequence:
        raise ConfigError(f"sequence_parallel is {sequence}: allowed are divisors of the {world} processes")
    device = torch.device("cpu")
    if setup.device == "cuda":
        require_gpu("device", setup.device)
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if world == 1 and not sharded:
        return Processes(device=device)
    if not dist.is_initialized():
        # gloo beside NCCL: what is offloaded is reduced in main memory
        backend = "gloo" if setup.device == "cpu" else "cpu:gloo,cuda:nccl"
        if "WORLD_SIZE" in os.environ:
            dist.init_process_group(backend)
        else:
            # it talks to itself: a machine without a network will do
            os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh(setup.device, (world // sequence, sequence), mesh_dim_names=(DATA, SEQUENCE))
    return Processes(dist.get_rank(), world, sequence, mesh, device)
