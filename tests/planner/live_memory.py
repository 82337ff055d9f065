"""Runs the real training step on tensors without contents, as one of several processes, and counts what is live."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import masking_utils

from longgen.modeling import attention_parts, longgen_classes, longgen_config
from longgen.planner.job import TrainingJob
from longgen.training.adapters import add_adapters
from longgen.training.base import shape_config
from longgen.training.batches import Batch
from longgen.training.optimizer import make_optimizers
from longgen.training.parallel import sharding, training_module
from longgen.training.parallel.processes import DATA, SEQUENCE, Processes
from longgen.training.parallel.training_module import TrainingModule
from tests.modeling.memory_tracker import MemoryTracker


class LiveMemory(MemoryTracker):
    """FSDP2 empties and fills storages, so that the sum of those that are alive is taken anew.

    Attributes:
        gathered: bytes that all-gathers gave.
        reduced: bytes that went into reduce-scatters.
        exchanged: bytes that went into all-to-alls.
    """

    gathered = reduced = exchanged = 0

    def watch(self) -> None:
        """Count anew; what is alive stays known."""
        super().watch()
        self.gathered = self.reduced = self.exchanged = 0

    @property
    def live(self) -> int:
        return sum(storage.nbytes() for storage in self.storages)

    def call(self, function, args, kwargs):
        if function is torch.ops.aten.nonzero.default:  # all weights are 1; fake tensors do not know it
            output = args[0].new_empty(args[0].numel(), 1, dtype=torch.int64)
        else:
            output = function(*args, **kwargs)
        match function:  # these take the output, then the input
            case torch.ops.c10d._allgather_base_.default:
                self.gathered += _bytes(args[0])
            case torch.ops.c10d._reduce_scatter_base_.default:
                self.reduced += _bytes(args[1])
            case torch.ops.c10d.alltoall_base_.default:
                self.exchanged += _bytes(args[1])
        return output


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


class FlashLike(torch.autograd.Function):
    """Saves and allocates what our Triton kernels do (`longgen.attention.triton_attention`), and computes nothing.

    For full heads, what flash-attn does: sums of the queries' gradients in float32, and gradients of repeated KV heads.
    """

    @staticmethod
    def forward(ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, full: bool) -> torch.Tensor:
        batch, heads, tokens, head_dim = query.shape
        output = query.new_empty(batch, tokens, heads, head_dim).transpose(1, 2)
        ctx.save_for_backward(query, key, value, output, query.new_empty(query.shape[:3], dtype=torch.float32))
        ctx.full = full
        return output

    @staticmethod
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, _, lse = ctx.saved_tensors
        delta = torch.empty_like(lse)
        if ctx.full:
            sums = torch.empty_like(query, dtype=torch.float32)
            repeated = [torch.empty_like(query) for _ in range(2 if key.shape[1] < query.shape[1] else 0)]
        gradients = tuple(torch.empty_like(states) for states in (query, key, value))
        if ctx.full:
            del sums, repeated
        del delta
        return *gradients, None


@dataclass
class Measured:
    """Bytes on one process: at most, after a step; and what goes to main memory and to the others in one pass."""

    peak: int
    states: int
    offloaded: int
    gathered: int
    reduced: int
    exchanged: int


def measure(job: TrainingJob, monkeypatch: pytest.MonkeyPatch) -> Measured:
    """The second of two passes of ``job``, with gradients of the first and optimizer state, on its first process."""
    shape = job.shape
    base = shape_config(shape, job.length)
    host = SimpleNamespace(bytes=0)

    @contextmanager
    def to_host(**_: Any):
        def pack(tensor: torch.Tensor) -> tuple[Any, ...]:
            host.bytes += _bytes(tensor)
            return tensor.shape, tensor.stride(), tensor.dtype

        def unpack(packed: tuple[Any, ...]) -> torch.Tensor:
            return torch.empty_strided(packed[0], packed[1], dtype=packed[2])

        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            yield

    monkeypatch.setattr(training_module, "save_on_cpu", to_host)
    monkeypatch.setattr(
        attention_parts,
        "_attend",
        lambda query, part, *_: FlashLike.apply(query, part.key, part.value, part.head_pattern.pattern is None),
    )
    # asks whether positions begin anew, which tensors without contents cannot answer
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda *_, **__: None)
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=job.processes)
    try:
        mesh = None
        if job.sharded:
            mesh = init_device_mesh("cpu", (job.groups, job.sequence), mesh_dim_names=(DATA, SEQUENCE))
            everyone = init_device_mesh("cpu", (job.processes,))
            monkeypatch.setattr(sharding, "init_device_mesh", lambda *_: everyone)
        processes = Processes(0, job.processes, job.sequence, mesh)
        with torch.device("meta"):
            model = longgen_classes("llama")[1](longgen_config(base, job.layout, job.model.hybrid.pattern)).train()
            if job.training.lora:
                add_adapters(model, job.training.lora)
        with FakeTensorMode(allow_non_fake_inputs=True), LiveMemory() as memory:
            model.to_empty(device="cpu")
            model.tie_weights()
            module = TrainingModule(model, processes, job.training, replace(job.setup, offload_parameters=False))
            optimizers = make_optimizers(model, job.training.optimizer)
            tokens, weights = torch.zeros(job.rows, job.length, dtype=torch.long), torch.ones(job.rows, job.length)
            for _ in range(2):
                memory.watch()
                host.bytes = 0
                module(Batch(tokens, tokens, weights), torch.ones(())).objective.backward()
                for optimizer in optimizers:
                    optimizer.step()
            traffic = (memory.gathered, memory.reduced, memory.exchanged)
            return Measured(memory.peak, memory.live, host.bytes, *traffic)
    finally:
        dist.destroy_process_group()
