"""The training loop: phases of fixed length, deterministic order of rows, checkpoints, a log of the loss."""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch

from longgen.config import PhaseSettings, TrainingSettings
from longgen.data.rows import Rows
from longgen.progress import progress_bar
from longgen.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from longgen.training.optimizer import learning_rate, make_optimizers
from longgen.training.parallel.processes import Processes
from longgen.training.parallel.step import Trainee

LOG_EVERY = 10  # steps per record of the loss curve


def train(
    model: torch.nn.Module,
    phases: list[Rows],
    settings: TrainingSettings,
    stage: str,
    fingerprint: str,
    checkpoint: Path,
    description: str,
    processes: Processes | None = None,
) -> Progress:
    """Train ``model`` in place, resuming from ``checkpoint`` if it holds a run of the same ``fingerprint``.

    A run that is killed at any moment and started again ends with the same weights, to the last bit on a CPU with the
    same number of threads and processes: the order of rows follows from the step alone, and nothing else is random.

    Args:
        model: a causal LM with ``model.model`` (the decoder) and ``model.lm_head``, on its device.
        phases: packed rows, one per entry of ``settings.phases``.
        settings: phases and optimizer.
        stage: ``base`` or ``extension``, for the log.
        fingerprint: of everything that determines the result.
        checkpoint: folder for the latest checkpoint.
        description: label of the progress bar.
        processes: who takes part; None for one process. Afterwards ``model`` is sharded among several.

    Returns:
        the finished progress; its records are the loss curve.
    """
    processes = processes or Processes()
    trainee = Trainee(model, processes, settings.early_exit_layers)
    optimizers = make_optimizers(model, settings.optimizer)
    progress = load_checkpoint(checkpoint, model, optimizers, fingerprint, processes)
    total = sum(phase.steps for phase in settings.phases)
    model.train()
    started = time.perf_counter() - progress.seconds
    saved = progress.step
    with progress_bar(total, description, "step", progress.step) as bar:
        first = 0
        for number, (phase, rows) in enumerate(zip(settings.phases, phases, strict=True)):
            log = _Log(stage, number, phase)
            for step in range(max(0, progress.step - first), phase.steps):
                loss, accuracy = _step(trainee, optimizers, rows, phase, step, settings)
                progress.step += 1
                progress.seconds = time.perf_counter() - started
                if log.add(loss, accuracy, step, progress):
                    last = progress.records[-1]
                    bar.set_postfix_str(f"loss {last['loss']:.3f}, {last['tokens_per_second']:,.0f} tokens/s")
                    # only where a record ends, so that a resumed run writes the same records
                    if progress.step - saved >= settings.checkpoint_every and progress.step < total:
                        save_checkpoint(checkpoint, model, optimizers, progress, processes, settings.keep_checkpoints)
                        saved = progress.step
                bar.update()
            first += phase.steps
    model.eval()
    return progress


def _step(
    trainee: Trainee,
    optimizers: list[torch.optim.Optimizer],
    rows: Rows,
    phase: PhaseSettings,
    step: int,
    settings: TrainingSettings,
) -> tuple[torch.Tensor, torch.Tensor]:
    processes, model = trainee.processes, trainee.model
    own = processes.rows(phase.batch_size)
    start = step * phase.batch_size + own.start
    objective, loss, accuracy = trainee(*rows.batch(start, own.stop - own.start, model.device))
    objective.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.optimizer.gradient_clip)
    rate = learning_rate(phase, step)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    return processes.total(loss) / processes.world, processes.mean_of_known(accuracy)


class _Log:
    """Means over LOG_EVERY steps of a phase."""

    def __init__(self, stage: str, number: int, phase: PhaseSettings) -> None:
        self.stage, self.number, self.phase = stage, number, phase
        self.losses: list[torch.Tensor] = []
        self.accuracies: list[torch.Tensor] = []

    def add(self, loss: torch.Tensor, accuracy: torch.Tensor, step: int, progress: Progress) -> bool:
        """Take one step's values; True when a record was written to ``progress``."""
        self.losses.append(loss)
        self.accuracies.append(accuracy)
        if (step + 1) % LOG_EVERY and step + 1 < self.phase.steps:
            return False
        tokens = self.phase.length * self.phase.batch_size * len(self.losses)
        previous = progress.records[-1] if progress.records else {"tokens": 0, "seconds": 0.0}
        answered = float(torch.stack(self.accuracies).nanmean())
        progress.records.append(
            {
                "stage": self.stage,
                "phase": self.number,
                "step": progress.step,
                "length": self.phase.length,
                "tokens": previous["tokens"] + tokens,
                "loss": float(torch.stack(self.losses).mean()),
                "answer_accuracy": None if math.isnan(answered) else answered,
                "learning_rate": learning_rate(self.phase, step),
                "seconds": progress.seconds,
                "tokens_per_second": tokens / max(progress.seconds - previous["seconds"], 1e-9),
            }
        )
        self.losses, self.accuracies = [], []
        return True
