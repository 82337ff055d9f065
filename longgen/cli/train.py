"""`longgen train`: pretrain the base model, or extend the context of a converted one."""

from __future__ import annotations

import os

import typer

from longgen.cli.machine import on_this_machine, use_threads
from longgen.cli.options.training import TrainingStage, TrainOptions
from longgen.config import load_experiment
from longgen.errors import ConfigError, TrainingStoppedError
from longgen.progress import is_first
from longgen.training.parallel.processes import leave_processes
from longgen.training.slurm import process_environment
from longgen.training.stages import StageFiles, train_base, train_extension


def train(options: TrainOptions) -> None:
    """Train; of several processes one says that it was stopped, and all of them end so."""
    os.environ |= process_environment()
    experiment = load_experiment(options.config)
    processes = experiment.setup_named(options.setup)
    experiment = on_this_machine(experiment, options.stage.value, device=processes.device)
    if options.stage is TrainingStage.base and experiment.base is None:
        raise ConfigError("--stage is base, and the configuration's model is a checkpoint: allowed is extension")
    if options.stage is TrainingStage.extension and options.variant is not None:
        experiment.variant(options.variant)
    use_threads(options.threads)
    try:
        if options.stage is TrainingStage.base or options.variant is None:
            train_base(experiment, _files(options), processes)
        else:
            train_extension(experiment, options.variant, _files(options), processes)
    except TrainingStoppedError as stop:
        leave_processes()
        if is_first():
            raise
        raise typer.Exit(stop.exit_code) from None
    leave_processes()


def _files(options: TrainOptions) -> StageFiles:
    return StageFiles(
        options.rows,
        options.source(),
        options.output,
        options.result,
        options.checkpoint,
        options.metrics,
        tuple(options.report_to or ()),
        options.deadline,
    )
