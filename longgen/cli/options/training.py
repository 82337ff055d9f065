"""Options of `longgen train`."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.compute import ThreadsOption
from longgen.cli.options.parameters import OUTPUT_FILE, OUTPUT_FOLDER, Options
from longgen.cli.options.shared import ConfigArgument, SetupOption, deadline_after
from longgen.errors import ConfigError
from longgen.training.metrics import JSON_LINES, WRITERS


class TrainingStage(StrEnum):
    """Training stages."""

    base = "base"
    extension = "extension"


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """SIGUSR1 or SIGTERM ends it after the step in work, with a checkpoint (exit code 75 or 143). On as many processes
    as the set-up says, also in a Slurm job: `python -m longgen.training.launch CONFIG ...`, with the same options.
    """

    config: ConfigArgument
    stage: Annotated[TrainingStage, typer.Option(help="base: a new model at short length. extension: long-context.")]
    rows: Annotated[
        Path, typer.Option(help="Folder made by `longgen prepare --stage base|extension`, or by `longgen pack`.")
    ]
    output: Annotated[Path, typer.Option(help="Folder for the trained model."), OUTPUT_FOLDER]
    result: Annotated[Path, typer.Option(help="Results file for the loss curve."), OUTPUT_FILE]
    checkpoint: Annotated[
        Path, typer.Option(help="Folder of the checkpoints from which a killed run resumes."), OUTPUT_FOLDER
    ]
    tokenizer: Annotated[Path | None, typer.Option(help="Tokenizer to save with the model (base).")] = None
    model: Annotated[Path | None, typer.Option(help="Converted model to extend (extension).")] = None
    variant: Annotated[str | None, typer.Option(help="Variant that the model is (extension).")] = None
    setup: SetupOption = None
    metrics: Annotated[
        Path | None,
        typer.Option(help="Folder for the numbers of every step: metrics.jsonl.", show_default="none"),
        OUTPUT_FOLDER,
    ] = None
    report_to: Annotated[
        list[str] | None,
        typer.Option(
            help=f"And for curves there: {', '.join(sorted(WRITERS.keys() - {JSON_LINES}))}. Repeat for several.",
            show_default="none",
        ),
    ] = None
    minutes: Annotated[
        float | None,
        typer.Option(help="Stop after so long, with a checkpoint, as on SIGUSR1.", show_default="no limit"),
    ] = None
    threads: ThreadsOption = 0
    deadline: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "deadline", deadline_after(self.minutes))
        self.source()

    def source(self) -> Path:
        """Tokenizer of a base model, or the model to extend. Raises ConfigError if one, or its variant, is missing."""
        if self.stage is TrainingStage.base:
            if self.tokenizer is None:
                raise ConfigError("--tokenizer is missing: `longgen prepare --stage corpus` makes one")
            return self.tokenizer
        if self.model is None or self.variant is None:
            raise ConfigError("--model and --variant are needed for stage extension: `longgen convert` makes the model")
        return self.model
