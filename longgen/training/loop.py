"""The training loop: phases of fixed length, deterministic order of rows, checkpoints, a log of the loss."""

from __future__ import annotations

import math
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch

from longgen.config import PhaseSettings, SetupSettings, TrainingSettings
from longgen.errors import TrainingError, TrainingStoppedError
from longgen.progress import progress_bar
from longgen.records.experiment import TrainingRecord
from longgen.training.batches import TrainingRows
from longgen.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from longgen.training.metrics import Metrics
from longgen.training.optimizer import learning_rate, make_optimizers
from longgen.training.parallel.processes import Processes
from longgen.training.parallel.training_module import TrainingModule
from longgen.training.step import StepNumbers, compute_gradients, update_weights

LOG_EVERY = 10  # steps per record of the loss curve
# What Slurm sends before the time limit (`sbatch --signal=USR1@300`), and at pre-emption or `scancel`.
SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


def _unknown_utilization(phase: PhaseSettings, seconds: float) -> None:
    return None


@dataclass(frozen=True)
class TrainingRun:
    """Names, folders and deadline of one training run.

    Attributes:
        stage: ``base`` or ``extension``, for the log.
        fingerprint: of everything that determines the result.
        checkpoint: folder of the checkpoints.
        description: label of the progress bar, and name at Weights & Biases.
        metrics: folder for `longgen.training.metrics`, or None.
        report_to: writers beside ``jsonl``.
        utilization: of a phase and the seconds of a step: the share of the machine's peak FLOP/s that the model's own
            FLOPs come to (MFU); None where the peak is not known.
        deadline: on the clock of `time.monotonic`: after it no step begins.
    """

    stage: str
    fingerprint: str
    checkpoint: Path
    description: str
    metrics: Path | None = None
    report_to: tuple[str, ...] = ()
    utilization: Callable[[PhaseSettings, float], float | None] = _unknown_utilization
    deadline: float = math.inf


def train(
    module: TrainingModule,
    phases: list[TrainingRows],
    settings: TrainingSettings,
    setup: SetupSettings,
    run: TrainingRun,
) -> Progress:
    """Train in place, going on from ``run.checkpoint`` if it holds a run of the same fingerprint.

    A run that is killed at any moment and started again ends with the same weights, to the last bit on a CPU with the
    same number of threads and processes: the order of rows follows from the step alone, and nothing else is random.

    Args:
        module: the model with its loss, and its processes.
        phases: the rows of ``settings.phases``.
        settings: phases and optimizer.
        setup: size of a forward pass.
        run: names and places.

    Returns:
        the finished progress; its records are the loss curve. The last checkpoint holds the trained weights.

    Raises:
        TrainingError: a loss or gradient is not finite. The step changes nothing, and the last checkpoint stays.
        TrainingStoppedError: a signal asked for it, or the deadline has passed; a checkpoint of the last step is
            written.
    """
    processes, model = module.processes, module.model
    optimizers = make_optimizers(model, settings.optimizer)
    progress = load_checkpoint(run.checkpoint, model, optimizers, run.fingerprint, processes)
    names = (run.report_to, run.description, run.fingerprint)
    metrics = Metrics(run.metrics, *names, progress.step, write=processes.rank == 0)
    total = sum(phase.steps for phase in settings.phases)
    model.train()
    started = time.perf_counter() - progress.seconds
    saved = progress.step
    bar = progress_bar(total, run.description, "step", progress.step)
    with closing(metrics), StopRequest(run.deadline) as stop, bar:
        first = 0
        for number, (phase, rows) in enumerate(zip(settings.phases, phases, strict=True)):
            log = _LossCurve(run.stage, number, phase, progress)
            for step in range(max(0, progress.step - first), phase.steps):
                before = time.perf_counter()
                numbers = compute_gradients(module, optimizers, rows, phase, step, settings, setup)
                _check_finite(numbers, f"{run.stage}.phases[{number}]", phase, step, progress, run.checkpoint)
                rate = update_weights(optimizers, phase, step)
                progress.step += 1
                progress.seconds = time.perf_counter() - started
                seconds = time.perf_counter() - before
                tokens_per_second = phase.length * phase.batch_size / seconds
                metrics.write(
                    progress.step,
                    {
                        "phase": number,
                        "loss": numbers.loss,
                        "answer_accuracy": _none_if_nan(numbers.answer_accuracy),
                        "gradient_norm": numbers.gradient_norm,
                        "learning_rate": rate,
                        "step_seconds": seconds,
                        "tokens_per_second": tokens_per_second,
                        "mfu": run.utilization(phase, seconds),
                        "peak_memory_bytes": _peak_memory(processes.device),
                        "seconds": progress.seconds,
                    },
                )
                bar.set_postfix_str(f"loss {numbers.loss:.3f}, {tokens_per_second:,.0f} tokens/s", refresh=False)
                log.add(numbers, step)
                signal_number = stop.agreed_signal(processes) if progress.step < total else 0
                if progress.step - saved >= settings.checkpoint_every or progress.step == total or signal_number:
                    save_checkpoint(run.checkpoint, model, optimizers, progress, processes, settings.keep_checkpoints)
                    saved = progress.step
                bar.update()
                if signal_number:
                    raise TrainingStoppedError(signal_number, progress.step, total, run.checkpoint)
            first += phase.steps
    model.eval()
    return progress


def _check_finite(
    numbers: StepNumbers, name: str, phase: PhaseSettings, step: int, progress: Progress, checkpoint: Path
) -> None:
    if math.isfinite(numbers.loss) and math.isfinite(numbers.gradient_norm):
        return
    rows = range(step * phase.batch_size, (step + 1) * phase.batch_size)
    raise TrainingError(
        f"step {progress.step + 1}: loss is {numbers.loss}, gradient norm is {numbers.gradient_norm} on rows "
        f"{rows.start}..{rows.stop - 1} of {name}: the step was not taken; the last good checkpoint is in {checkpoint}"
    )


def _none_if_nan(value: float) -> float | None:
    return None if math.isnan(value) else value


def _peak_memory(device: torch.device) -> int:
    """Bytes of this process at most so far: on the GPU, or in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class _LossCurve:
    """Means over LOG_EVERY steps of a phase, written to ``progress``, from which a resumed run goes on."""

    def __init__(self, stage: str, number: int, phase: PhaseSettings, progress: Progress) -> None:
        self.stage, self.number, self.phase, self.progress = stage, number, phase, progress

    def add(self, numbers: StepNumbers, step: int) -> None:
        """Take one step's values."""
        progress = self.progress
        progress.unrecorded.append({"loss": numbers.loss, "answer_accuracy": _none_if_nan(numbers.answer_accuracy)})
        if (step + 1) % LOG_EVERY and step + 1 < self.phase.steps:
            return
        steps, progress.unrecorded = progress.unrecorded, []
        tokens = self.phase.length * self.phase.batch_size * len(steps)
        previous = progress.records[-1] if progress.records else None
        accuracies = [each["answer_accuracy"] for each in steps if each["answer_accuracy"] is not None]
        progress.records.append(
            TrainingRecord(
                stage=self.stage,
                phase=self.number,
                step=progress.step,
                length=self.phase.length,
                tokens=tokens + (previous.tokens if previous else 0),
                loss=sum(each["loss"] for each in steps) / len(steps),
                answer_accuracy=sum(accuracies) / len(accuracies) if accuracies else None,
                learning_rate=learning_rate(self.phase, step),
                seconds=progress.seconds,
                tokens_per_second=tokens / max(progress.seconds - (previous.seconds if previous else 0.0), 1e-9),
            )
        )


class StopRequest:
    """Remembers `SIGNALS` while it is entered, instead of what they do otherwise: the run stops after a step.

    Signals reach the processes of a run one by one, between any two of their operations: `agreed_signal` makes all of
    them stop at the same step. Outside the main thread, which alone can handle signals, it remembers nothing.

    Args:
        deadline: on the clock of `time.monotonic`; when it has passed, that is as SIGUSR1.
    """

    def __init__(self, deadline: float = math.inf) -> None:
        self.number, self.deadline = 0, deadline
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {name: signal.signal(name, self._remember) for name in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # A process that stopped is about to end. When another one is there first, Slurm sends SIGTERM to the rest: they
        # would lose the exit code by which the job is to go on.
        stopped = isinstance(error, TrainingStoppedError)
        for name, handler in self._before.items():
            signal.signal(name, signal.SIG_IGN if stopped else handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.number = max(self.number, number)

    def agreed_signal(self, processes: Processes) -> int:
        """The signal that any of the processes was sent, 0 if none was; called by all of them, with the same answer."""
        if time.monotonic() >= self.deadline:
            self.number = max(self.number, signal.SIGUSR1)
        return processes.largest(self.number)
