"""Time of one optimizer step, by arithmetic: FLOPs and bytes over what the machine does per second.

Within a pass, FSDP2's traffic runs beside computation, so that the longer of the two counts. Not so Ulysses' exchanges,
which attention waits for, nor offloaded activations, which PyTorch copies in the order of the computation, nor the
optimizer. Not counted: start-up of collectives, uneven work among processes, reading data, checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

from longgen.planner.job import MASTER_BYTES, TrainingJob
from longgen.planner.training_memory import offloaded_bytes

# Bytes of main memory per second that AdamW reaches on the processors of a node, where parameters are offloaded. Our
# choice.
HOST_MEMORY_BANDWIDTH = 200e9

# Numbers of 4 bytes that AdamW reads and writes for a weight: weight, gradient, two moments; all but the gradient.
UPDATE_BYTES = (4 + 3) * MASTER_BYTES


@dataclass(frozen=True)
class StepTime:
    """Seconds of one optimizer step.

    Attributes:
        compute: matrices and attention, recomputed ones included.
        sharding: FSDP2's gathering and reducing; beside ``compute``.
        exchange: Ulysses' all-to-all.
        offload: activations to main memory and back.
        update: the optimizer.
    """

    compute: float
    sharding: float
    exchange: float
    offload: float
    update: float

    @property
    def total(self) -> float:
        """The step."""
        return max(self.compute, self.sharding) + self.exchange + self.offload + self.update


def step_time(job: TrainingJob) -> StepTime:
    """Predicted seconds of one optimizer step of ``job``."""
    machine = job.machine
    peak = job.processes * machine.gpu.flops(job.training.dtype)
    # out and back, over a link that each GPU has for itself
    offloaded = 2 * offloaded_bytes(job) / machine.gpu.host_link if job.setup.offload_activations else 0.0
    return StepTime(
        compute=step_flops(job, job.setup.recompute) / (peak * machine.efficiency),
        sharding=job.passes * _sharding(job) if job.sharded else 0.0,
        exchange=job.passes * _exchange(job),
        offload=job.passes * offloaded,
        update=_update(job),
    )


def step_flops(job: TrainingJob, recompute: bool = False) -> int:
    """FLOPs of one optimizer step over all processes; without recomputation, those that count for MFU."""
    return job.model.training_flops(job.length, job.batch_size, recompute)


def gathered_bytes(job: TrainingJob) -> int:
    """Bytes of weights that one pass gathers on each process: layers in both directions, the root once."""
    return (2 * job.shape.num_layers * job.layer.count + job.root.count) * job.value_bytes


def reduced_bytes(job: TrainingJob) -> int:
    """Bytes of gradients that each process brings to the reduction of one pass."""
    return job.whole.trained * MASTER_BYTES


def exchanged_bytes(job: TrainingJob) -> int:
    """Bytes that one pass sends through a process's all-to-alls: queries, keys, values and output of all layers.

    In the forward pass, in the backward pass, and in the forward pass that is computed again. The share that a process
    sends to itself counts.
    """
    if job.sequence == 1:
        return 0
    shape = job.shape
    heads = 2 * shape.num_heads + 2 * max(shape.num_kv_heads, job.sequence)
    times = 3 if job.setup.recompute else 2
    return times * shape.num_layers * job.tokens * heads * shape.head_dim * job.value_bytes


def _sharding(job: TrainingJob) -> float:
    """Seconds of FSDP2's traffic in one pass."""
    seconds = _collective(job, gathered_bytes(job) + reduced_bytes(job))
    if job.setup.offload_parameters:  # float32 shards go in for every gathering, and gradients out
        shards = gathered_bytes(job) // job.value_bytes + job.whole.trained
        seconds += MASTER_BYTES * shards / job.processes / job.machine.gpu.host_link
    return seconds


def _collective(job: TrainingJob, size: int) -> float:
    """Seconds of an all-gather or reduce-scatter of ``size`` bytes over all processes.

    Each GPU takes in what it lacks over its link; what comes from other nodes, its node's network adapters share.
    """
    machine, nodes = job.machine, job.nodes
    inside = size * (1 - 1 / job.processes) / machine.gpu.link
    between = size * (1 - 1 / nodes) / (machine.gpus_per_node * machine.network)
    return max(inside, between)


def _exchange(job: TrainingJob) -> float:
    """Seconds of one pass's all-to-alls; neighbours share a node."""
    machine, sequence, sent = job.machine, job.sequence, exchanged_bytes(job)
    here = min(sequence, machine.gpus_per_node)
    inside, between = sent * (here - 1) / sequence, sent * (sequence - here) / sequence
    return inside / machine.gpu.link + between / machine.network


def _update(job: TrainingJob) -> float:
    """Seconds of the optimizer, which is limited by memory."""
    trained = job.whole.trained
    if job.setup.offload_parameters:
        return UPDATE_BYTES * trained / (job.nodes * HOST_MEMORY_BANDWIDTH)
    return UPDATE_BYTES * trained / (job.processes * job.machine.gpu.memory_bandwidth)
