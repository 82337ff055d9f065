"""`longgen train`: pretrain the base model, or extend the context of a converted one."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options import Config, Stage, Threads, on_this_machine, use_threads
from longgen.errors import ConfigError, TrainingStoppedError
from longgen.units import seconds_of_minutes


def train(
    config: Config,
    stage: Annotated[Stage, typer.Option(help="base: a new model at short length. extension: long-context.")],
    rows: Annotated[
        Path, typer.Option(help="Folder made by `longgen prepare --stage base|extension`, or by `longgen pack`.")
    ],
    output: Annotated[Path, typer.Option(help="Folder for the trained model.")],
    result: Annotated[Path, typer.Option(help="Results file for the loss curve.")],
    checkpoint: Annotated[Path, typer.Option(help="Folder of the checkpoints from which a killed run resumes.")],
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer to save with the model (base).")] = None,
    model: Annotated[Path | None, typer.Option(help="Converted model to extend (extension).")] = None,
    variant: Annotated[str | None, typer.Option(help="Variant that the model is (extension).")] = None,
    setup: Annotated[
        str | None, typer.Option(help="One of the configuration's set-ups of processes.", show_default="its own choice")
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(help="Folder for the numbers of every step: metrics.jsonl.", show_default="none")
    ] = None,
    report_to: Annotated[
        list[str] | None,
        typer.Option(help="And for curves there: tensorboard, wandb. Repeat for several.", show_default="none"),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop after so long, with a checkpoint, as on SIGUSR1.", show_default="no limit"),
    ] = None,
    threads: Threads = 0,
) -> None:
    """Train the base model, or extend a converted one; a killed run resumes exactly where its checkpoint stands.

    SIGUSR1 or SIGTERM ends it after the step in work, with a checkpoint (exit code 75 or 143). On as many processes as
    the set-up says, also in a Slurm job: `python -m longgen.training.launch CONFIG ...`, with the same options.
    """
    deadline = math.inf if minutes is None else time.monotonic() + seconds_of_minutes(minutes)
    from longgen.config import load_experiment

    experiment = load_experiment(config)
    processes = experiment.setup_named(setup)
    experiment = on_this_machine(experiment, stage.value, device=processes.device)
    if stage is Stage.base:
        if tokenizer is None:
            raise ConfigError("--tokenizer is missing: `longgen prepare --stage corpus` makes one")
        if experiment.base is None:
            raise ConfigError("--stage is base, and the configuration's model is a checkpoint: allowed is extension")
    elif model is None or variant is None:
        raise ConfigError("--model and --variant are needed for stage extension: `longgen convert` makes the model")
    else:
        experiment.variant(variant)

    from longgen.progress import is_first
    from longgen.training.parallel.processes import leave_processes
    from longgen.training.stages import Files, train_base, train_extension

    use_threads(threads)

    def files(source: Path) -> Files:
        return Files(rows, source, output, result, checkpoint, metrics, tuple(report_to or ()), deadline)

    try:
        if tokenizer is not None and stage is Stage.base:
            train_base(experiment, files(tokenizer), processes)
        elif model is not None and variant is not None:
            train_extension(experiment, variant, files(model), processes)
    except TrainingStoppedError as stop:
        leave_processes()
        if is_first():
            raise
        raise typer.Exit(stop.exit_code) from None  # one of the processes says so, all of them end so
    leave_processes()
