"""Options of `longgen prepare` and `longgen pack`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.parameters import OUTPUT_FILE, OUTPUT_FOLDER, ConfigurationFile, Options
from longgen.cli.options.shared import ConfigArgument


class PrepareStage(StrEnum):
    """What to prepare: the corpus, or the rows of a training stage."""

    corpus = "corpus"
    base = "base"
    extension = "extension"


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(Options):
    """The rows are generated; `longgen pack` makes rows of a corpus of any size."""

    config: ConfigArgument
    stage: Annotated[PrepareStage, typer.Option(help="The corpus, or the training rows of a stage.")]
    output: Annotated[Path, typer.Option(help="Folder to make."), OUTPUT_FOLDER]
    corpus: Annotated[Path | None, typer.Option(help="Folder of the prepared corpus (for training rows).")] = None
    result: Annotated[Path | None, typer.Option(help="Results file to write (for the corpus)."), OUTPUT_FILE] = None


@dataclass(frozen=True, kw_only=True)
class PackOptions(Options):
    """Sources: the Hugging Face hub (streamed), JSON lines, Parquet, Arrow, text. Memory does not grow with their size.
    After an interruption the same command goes on where it was; the rows are the same bytes, whatever the workers.
    Records that are no documents are counted and shown; more than max_bad_fraction of them are an error.

    Example: longgen pack config/data/slimpajama-128k.yaml --output artifacts/slimpajama-128k --workers 16
    """

    config: Annotated[
        Path,
        typer.Argument(help="What to pack, such as config/data/slimpajama-128k.yaml.", show_default=False),
        ConfigurationFile(),
    ]
    output: Annotated[Path, typer.Option(help="Folder to make, or one that an interrupted call began."), OUTPUT_FOLDER]
    result: Annotated[Path | None, typer.Option(help="Results file to write."), OUTPUT_FILE] = None
    workers: Annotated[
        int | None, typer.Option(help="Processes that tokenise.", show_default="as in CONFIG", min=1)
    ] = None
