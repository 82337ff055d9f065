"""Options that several verbs share."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.parameters import OUTPUT_FILE, OUTPUT_FOLDER, ConfigurationFile, option_names
from longgen.errors import ConfigError
from longgen.units import seconds_of_minutes

RESULTS = Path("results")
FIGURES = Path("paper_figures")
# of the verbs that read the results of a run
RUN_NAMES = "NAME for results/NAME, or published/NAME."

ConfigArgument = Annotated[
    Path,
    typer.Argument(help="Configuration file, such as config/smoke.yaml.", show_default=False),
    ConfigurationFile(),
]
SetupOption = Annotated[
    str | None, typer.Option(help="One of its set-ups of processes for training.", show_default="its own choice")
]
SelectOption = Annotated[str, typer.Option(help="Variants as in the workflow: default, all, or names.")]

ModelArgument = Annotated[Path, typer.Argument(help="Folder of the model.", show_default=False)]
ResultOption = Annotated[Path, typer.Option(help="Results file to write."), OUTPUT_FILE]
RunOption = Annotated[str, typer.Option(help="Name of the run that the result is part of.")]
VariantOption = Annotated[str, typer.Option(help="Name of the model in it.")]

MinutesOption = Annotated[
    float | None, typer.Option(help="Stop after so long; the same command goes on.", show_default="no limit")
]

ResultsOption = Annotated[Path, typer.Option(help="Folder that holds the runs.")]
FiguresFolderOption = Annotated[Path, typer.Option(help="Folder for the figures of all runs."), OUTPUT_FOLDER]


def deadline_after(minutes: float | None) -> float:
    """When, by time.monotonic(), ``--minutes`` are over; None: never. Raises ConfigError if they are no time."""
    return math.inf if minutes is None else time.monotonic() + seconds_of_minutes(minutes)


def whole_numbers(name: str, values: Iterable[str]) -> list[int]:
    """What the option ``name`` lists, repeated or separated by commas. Raises ConfigError unless all are >= 1."""
    words = [word.strip() for words in values for word in words.split(",")]
    for word in words:
        if not word.isdecimal() or int(word) < 1:
            allowed = "allowed are whole numbers >= 1, such as 4096 or 4096,131072"
            raise ConfigError(f"{option_names([name])} is {word!r}: {allowed}")
    return [int(word) for word in words]
