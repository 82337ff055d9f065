"""Requests of the jobs that train, by the planner."""

from __future__ import annotations

from longgen.cluster.assumptions import FILE_RATE, GPU_PROCESS_BYTES, PROCESS_BYTES
from longgen.cluster.job import ClusterJob
from longgen.cluster.request import JobRequest
from longgen.model import Model
from longgen.names import FILE_BYTES
from longgen.planner.job import Machine
from longgen.planner.training import TrainingPlan, plan_training
from longgen.planner.training_memory import STATES, state_bytes


def base(job: ClusterJob) -> JobRequest:
    """Training of the base model."""
    return _training(job, "base")


def extend(job: ClusterJob) -> JobRequest:
    """Extension of a variant."""
    return _training(job, "extension")


def checkpoint_bytes(plan: TrainingPlan) -> int:
    """Bytes of one checkpoint: what is trained, and the optimizer's state."""
    _, gradients, moments = STATES  # as many gradients as weights that are trained
    states = state_bytes(plan.job)
    return plan.job.processes * (states[gradients] + states[moments])


def training_plans(job: ClusterJob, stage: str) -> list[TrainingPlan]:
    """The planner's predictions for the phases of a stage, for the variant of the job.

    Raises:
        ConfigError: rows, tokens or heads cannot be shared out evenly among the set-up's processes.
    """
    setup, training, variant = job.setup, job.experiment.stages[stage], job.variant
    processes, device = setup.processes or 1, setup.device
    machine = Machine(job.processor(device), gpus_per_node=processes // setup.nodes, efficiency=job.efficiency(device))
    model = Model(job.shape, variant.hybrid)
    return [
        plan_training(model, phase.length, phase.batch_size, training, setup, processes, machine)
        for phase in training.phases
    ]


def _training(job: ClusterJob, stage: str) -> JobRequest:
    """Every node reads the model whole at worst, and writes its part of a checkpoint; one process exports the model."""
    setup, training, plans = job.setup, job.experiment.stages[stage], training_plans(job, stage)
    processes, nodes = setup.processes or 1, setup.nodes
    here, on_gpus = processes // nodes, setup.device == "cuda"
    checkpoint = checkpoint_bytes(plans[0]) / (FILE_RATE * nodes)
    checkpoints = sum(phase.steps for phase in training.phases) // training.checkpoint_every
    longest_step = max(plan.step.total for plan in plans)
    # reading: for its fingerprint, and for its weights; a checkpoint of an earlier attempt
    files = 2 * job.loading_seconds + checkpoint + job.model_bytes / FILE_RATE
    device_bytes = max(plan.memory_bytes for plan in plans)
    own = GPU_PROCESS_BYTES if on_gpus else PROCESS_BYTES + device_bytes
    return JobRequest(
        seconds=86400 * plans[0].days + checkpoints * checkpoint + files,
        memory=here * own + plans[0].host_bytes * on_gpus + 2 * min(FILE_BYTES, job.model_bytes),
        cpus=job.cpus(setup.device),
        gpus=here if on_gpus else 0,
        gpu_memory=device_bytes if on_gpus else 0,
        nodes=nodes,
        tasks=processes,
        notice=longest_step + checkpoint,
    )
