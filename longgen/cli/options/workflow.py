"""Options of `longgen commands` and `longgen status`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.parameters import ConfigurationFile, Options
from longgen.cli.options.shared import ConfigArgument, SelectOption, SetupOption


@dataclass(frozen=True, kw_only=True)
class CommandsOptions(Options):
    """It takes longgen to run, and not Snakemake. Run it again after an interruption: what is done is left out.
    `bash run.sh 9` ends after nine minutes, training with a checkpoint, and with exit code 75 if something is left.
    """

    config: Annotated[
        Path,
        typer.Argument(help="The experiment, such as config/mini.yaml.", metavar="config", show_default=False),
        ConfigurationFile(),
    ]
    select: SelectOption = "default"
    setup: SetupOption = None
    cpus: Annotated[
        int, typer.Option(min=0, help="Processors that every command uses.", show_default="those of this machine")
    ] = 0
    figures: Annotated[bool, typer.Option(help="Draw the figures at the end, which takes pandas and Matplotlib.")] = (
        True
    )


@dataclass(frozen=True, kw_only=True)
class StatusOptions(Options):
    """Snakemake says what is due, the folder's lock and the processes of this machine what is running, and logs what
    failed. Nothing is changed.

    Exit codes: 0 when all is there, 75 when something is left or running, 1 when something failed, 2 for an error.
    """

    config: ConfigArgument
    select: SelectOption = "default"
    setup: SetupOption = None
    cores: Annotated[
        int, typer.Option(min=0, help="Processors that a run would have.", show_default="those of this machine")
    ] = 0
    time: Annotated[
        bool,
        typer.Option(
            "--time",
            help="Predict how long what is left takes. The processors' rates are measured first: takes seconds.",
        ),
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False
