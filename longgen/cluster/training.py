"""Requests of the jobs that train, by the planner."""

from __future__ import annotations

from longgen.cluster.asked import Asked
from longgen.cluster.assumptions import FILE_RATE, GPU_PROCESS_BYTES, PROCESS_BYTES
from longgen.cluster.request import JobRequest
from longgen.names import FILE_BYTES
from longgen.planner.job import Machine
from longgen.planner.model import Model
from longgen.planner.training import TrainingPlan, plan_training
from longgen.planner.training_memory import STATES, state_bytes


def base(asked: Asked) -> JobRequest:
    """Training of the base model."""
    return _training(asked, "base")


def extend(asked: Asked) -> JobRequest:
    """Extension of a variant."""
    return _training(asked, "extension")


def checkpoint_bytes(plan: TrainingPlan) -> int:
    """Bytes of one checkpoint: what is trained, and the optimizer's state."""
    _, gradients, moments = STATES  # as many gradients as weights that are trained
    states = state_bytes(plan.job)
    return plan.job.processes * (states[gradients] + states[moments])


def training_plans(asked: Asked, stage: str) -> list[TrainingPlan]:
    """The planner's predictions for the phases of a stage, for the variant of the job.

    Raises:
        ConfigError: rows, tokens or heads cannot be shared out evenly among the set-up's processes.
    """
    setup, training, variant = asked.setup, asked.experiment.stages[stage], asked.variant
    processes, device = setup.processes or 1, setup.device
    machine = Machine(
        asked.processor(device), gpus_per_node=processes // setup.nodes, efficiency=asked.efficiency(device)
    )
    model = Model(asked.shape, variant.hybrid)
    return [
        plan_training(model, phase.length, phase.batch_size, training, setup, processes, machine)
        for phase in training.phases
    ]


def _training(asked: Asked, stage: str) -> JobRequest:
    """Every node reads the model whole at worst, and writes its part of a checkpoint; one process exports the model."""
    setup, training, plans = asked.setup, asked.experiment.stages[stage], training_plans(asked, stage)
    processes, nodes = setup.processes or 1, setup.nodes
    here, on_gpus = processes // nodes, setup.device == "cuda"
    checkpoint = checkpoint_bytes(plans[0]) / (FILE_RATE * nodes)
    checkpoints = sum(phase.steps for phase in training.phases) // training.checkpoint_every
    longest_step = max(plan.step.total for plan in plans)
    # reading: for its fingerprint, and for its weights; a checkpoint of an earlier attempt
    files = 2 * asked.loading_seconds + checkpoint + asked.model_bytes / FILE_RATE
    device_bytes = max(plan.memory_bytes for plan in plans)
    own = GPU_PROCESS_BYTES if on_gpus else PROCESS_BYTES + device_bytes
    return JobRequest(
        seconds=86400 * plans[0].days + checkpoints * checkpoint + files,
        memory=here * own + plans[0].host_bytes * on_gpus + 2 * min(FILE_BYTES, asked.model_bytes),
        cpus=asked.cpus(setup.device),
        gpus=here if on_gpus else 0,
        gpu_memory=device_bytes if on_gpus else 0,
        nodes=nodes,
        tasks=processes,
        notice=longest_step + checkpoint,
    )
