"""`longgen train`: pretrain the base model, or extend the context of a converted one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options import Config, Stage, Threads, use_threads
from longgen.errors import ConfigError


def train(
    config: Config,
    stage: Annotated[Stage, typer.Option(help="base: a new model at short length. extension: long-context.")],
    rows: Annotated[Path, typer.Option(help="Folder made by `longgen prepare --stage base|extension`.")],
    output: Annotated[Path, typer.Option(help="Folder for the trained model.")],
    result: Annotated[Path, typer.Option(help="Results file for the loss curve.")],
    checkpoint: Annotated[Path, typer.Option(help="Folder of the checkpoint from which a killed run resumes.")],
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer to save with the model (base).")] = None,
    model: Annotated[Path | None, typer.Option(help="Converted model to extend (extension).")] = None,
    variant: Annotated[str | None, typer.Option(help="Variant that the model is (extension).")] = None,
    threads: Threads = 0,
    sequence_parallel: Annotated[
        int, typer.Option(help="Of the processes that torchrun started, how many share the tokens of a row.", min=1)
    ] = 1,
) -> None:
    """Train the base model, or extend a converted one; a killed run resumes exactly where its checkpoint stands.

    On several processes: `torchrun --nproc-per-node N -m longgen.training CONFIG ...`, with the same options.
    """
    from longgen.config import load_experiment

    experiment = load_experiment(config)
    if stage is Stage.base:
        if tokenizer is None:
            raise ConfigError("--tokenizer is missing: `longgen prepare --stage corpus` makes one")
    elif model is None or variant is None:
        raise ConfigError("--model and --variant are needed for stage extension: `longgen convert` makes the model")
    else:
        experiment.variant(variant)

    from longgen.training.parallel.processes import join_processes
    from longgen.training.stages import train_base, train_extension

    use_threads(threads)
    processes = join_processes(sequence_parallel)
    if tokenizer is not None and stage is Stage.base:
        train_base(experiment, rows, tokenizer, output, result, checkpoint, processes)
    elif model is not None and variant is not None:
        train_extension(experiment, rows, model, variant, output, result, checkpoint, processes)
