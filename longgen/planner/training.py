"""Plans of training: memory per GPU and time per step of a set-up, whether it fits, and what would."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from longgen.config import SetupSettings, TrainingSettings
from longgen.errors import ConfigError
from longgen.gpus import GIB
from longgen.model import Model
from longgen.planner.job import DEFAULT_MACHINE, Machine, TrainingJob
from longgen.planner.training_memory import host_memory, training_memory
from longgen.planner.training_time import StepTime, step_flops, step_time

# How many remedies are named, and of how many changes each may consist.
REMEDIES, CHANGES = 4, 3


@dataclass(frozen=True)
class TrainingPlan:
    """Predictions for one phase of training on one set-up. None of it is a measurement.

    Attributes:
        job: what is planned.
        memory: bytes on one GPU at the widest point of a step, by component.
        host_memory: bytes that offloading takes in the main memory of one node, by component.
        step: seconds of an optimizer step, by part.
    """

    job: TrainingJob
    memory: dict[str, int]
    host_memory: dict[str, int]
    step: StepTime

    @property
    def memory_bytes(self) -> int:
        """Bytes on one GPU, the reserve included."""
        return sum(self.memory.values())

    @property
    def host_bytes(self) -> int:
        """Bytes in the main memory of one node."""
        return sum(self.host_memory.values())

    @property
    def tokens_per_second(self) -> float:
        """Over all GPUs."""
        return self.job.length * self.job.batch_size / self.step.total

    @property
    def mfu(self) -> float:
        """Model FLOPs utilization (Chowdhery et al. 2022, arXiv 2204.02311): without recomputed FLOPs, of the peak."""
        peak = self.job.processes * self.job.machine.gpu.flops(self.job.training.dtype)
        return step_flops(self.job) / (peak * self.step.total)

    @cached_property
    def days(self) -> float:
        """All steps of all phases of the stage, on this set-up."""
        phases = self.job.training.phases
        jobs = [replace(self.job, length=phase.length, batch_size=phase.batch_size) for phase in phases]
        seconds = [phase.steps * step_time(job).total for phase, job in zip(phases, jobs, strict=True)]
        return sum(seconds) / 86400

    def fits(self, memory_bytes: int | None = None) -> bool:
        """Whether ``memory_bytes`` per GPU suffice; by default those of the machine's GPU."""
        return self.memory_bytes <= (self.job.machine.gpu.memory if memory_bytes is None else memory_bytes)


def plan_training(
    model: Model,
    phase_length: int,
    batch_size: int,
    training: TrainingSettings,
    setup: SetupSettings,
    processes: int,
    machine: Machine = DEFAULT_MACHINE,
) -> TrainingPlan:
    """Predict memory and time of training.

    Args:
        model: that is trained.
        phase_length: tokens per row.
        batch_size: rows per optimizer step, over all processes.
        training: dtype, optimizer and adapters; all of its phases for `TrainingPlan.days`.
        setup: how the processes share the work; its own ``processes`` is not read.
        processes: one per GPU.
        machine: GPUs, links and the efficiency that is assumed.

    Raises:
        ConfigError: rows, tokens or heads cannot be shared out evenly, or a number is not a whole number >= 1.
    """
    return _plan(TrainingJob(model, phase_length, batch_size, training, setup, processes, machine))


def _plan(job: TrainingJob) -> TrainingPlan:
    return TrainingPlan(job, training_memory(job), host_memory(job), step_time(job))


def require_fit(plan: TrainingPlan, memory_bytes: int, what: str = "GPU memory") -> None:
    """Refuse a set-up that needs more memory than there is.

    Args:
        plan: of the set-up.
        memory_bytes: what each process has.
        what: what is called so in the message.

    Raises:
        ConfigError: with the largest components and the nearest set-ups that would fit.
    """
    if plan.fits(memory_bytes):
        return
    job, largest = plan.job, sorted(plan.memory.items(), key=lambda item: -item[1])[:4]
    parts = ", ".join(f"{name} {count / GIB:.1f}" for name, count in largest)
    allowed = "; or ".join(remedies(plan, memory_bytes)) or "a smaller model, shorter rows or larger GPUs"
    raise ConfigError(
        f"{job.length:,} tokens of {job.shape.name} on {job.processes} processes are predicted to need "
        f"{plan.memory_bytes / GIB:.1f} GiB of {what} each, and {memory_bytes / GIB:.1f} GiB are there ({parts}): "
        f"allowed is what fits, such as {allowed}"
    )


def remedies(plan: TrainingPlan, memory_bytes: int | None = None) -> list[str]:
    """The nearest set-ups that would fit, in words: those with the fewest changes, as many as `REMEDIES`.

    Args:
        plan: of the set-up that does not.
        memory_bytes: per GPU; by default those of the machine's GPU.
    """
    changes = _changes(plan.job)
    for count in range(1, CHANGES + 1):
        candidates = (_first_fit(plan.job, kinds, memory_bytes) for kinds in itertools.combinations(changes, count))
        descriptions = [_in_words(*candidate) for candidate in candidates if candidate is not None]
        if descriptions:
            return descriptions[:REMEDIES]
    return []


Change = dict[str, Any]


def _changes(job: TrainingJob) -> list[list[Change]]:
    """What may be changed, the cheapest first: for each kind the steps to try, the smallest first."""
    setup = job.setup
    kinds: list[list[Change]] = [
        [{"recompute": True}] if not setup.recompute else [],
        [{"micro_batch_size": 1}] if job.rows > 1 else [],
        [{"sequence_parallel": size} for size in _doublings(job.sequence, job.processes)],
        [{"offload_activations": True}] if setup.recompute and not setup.offload_activations else [],
        [{"offload_parameters": True}] if not setup.offload_parameters else [],
        [{"processes": count} for count in _doublings(job.processes, 64 * job.processes)],
    ]
    return [steps for steps in kinds if steps]


def _doublings(value: int, limit: int) -> Iterator[int]:
    while 2 * value <= limit:
        value *= 2
        yield value


def _first_fit(
    job: TrainingJob, kinds: tuple[list[Change], ...], memory_bytes: int | None
) -> tuple[TrainingJob, Change] | None:
    available = job.machine.gpu.memory if memory_bytes is None else memory_bytes
    for steps in itertools.product(*kinds):
        change: Change = {}
        for step in steps:
            change |= step
        try:
            candidate = _with_change(job, change)
        except ConfigError:  # cannot be shared out so
            continue
        if sum(training_memory(candidate).values()) <= available:
            return candidate, change
    return None


def _with_change(job: TrainingJob, change: Change) -> TrainingJob:
    processes = change.get("processes", job.processes)
    setup = replace(job.setup, **change | {"processes": processes})
    return replace(job, setup=setup, processes=processes)


def _in_words(job: TrainingJob, change: Change) -> str:
    words = " and ".join(f"{name}: {str(value).lower()}" for name, value in change.items())
    memory = f"{sum(training_memory(job).values()) / GIB:.1f} GiB"
    host = sum(host_memory(job).values())
    return f"{words} ({memory}{f', and {host / GIB:.0f} GiB of main memory per node' if host else ''})"
