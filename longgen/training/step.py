"""One optimizer step: gradients over all passes and processes, and the update."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.distributed.tensor import DTensor

from longgen.config import PhaseSettings, SetupSettings, TrainingSettings
from longgen.training.batches import TrainingRows
from longgen.training.optimizer import learning_rate
from longgen.training.parallel.training_module import TrainingModule


class StepNumbers(NamedTuple):
    """Numbers of one optimizer step.

    Attributes:
        loss: mean over the targets of the batch.
        answer_accuracy: share of answers that were the most probable token; NaN without answers.
        gradient_norm: before clipping.
    """

    loss: float
    answer_accuracy: float
    gradient_norm: float


def compute_gradients(
    module: TrainingModule,
    optimizers: list[torch.optim.Optimizer],
    rows: TrainingRows,
    phase: PhaseSettings,
    step: int,
    settings: TrainingSettings,
    setup: SetupSettings,
) -> StepNumbers:
    """Compute the gradients of a step, clipped, with all processes.

    Args:
        module: the model with its loss, and its processes.
        optimizers: of its weights; what they hold of the step before is dropped.
        rows: of the phase.
        phase: of the stage.
        step: of the phase, from 0.
        settings: the stage.
        setup: size of a forward pass.
    """
    processes = module.processes
    own_rows, start = processes.rows(phase.batch_size), step * phase.batch_size
    size = setup.micro_batch_size or len(own_rows)
    batches = [rows.batch(start + row, size) for row in range(own_rows.start, own_rows.stop, size)]
    own_weight = torch.stack([module.own_weight(batch) for batch in batches]).sum().to(processes.device)
    total_weight = processes.total(own_weight) / processes.world
    for optimizer in optimizers:
        optimizer.zero_grad()
    sums = torch.zeros(3, device=processes.device)
    for batch in batches:
        losses = module(batch.to(processes.device), total_weight)
        losses.objective.backward()
        sums += torch.stack([losses.loss / processes.world, losses.right, losses.answers])
    trained = [parameter for parameter in module.model.parameters() if parameter.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_(trained, settings.optimizer.gradient_clip)
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    loss, right, answers = processes.total(sums).tolist()
    return StepNumbers(loss, right / answers if answers else math.nan, float(norm))


def update_weights(optimizers: list[torch.optim.Optimizer], phase: PhaseSettings, step: int) -> float:
    """Take a step with the gradients that are there; the learning rate that it took."""
    rate = learning_rate(phase, step)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
    return rate
