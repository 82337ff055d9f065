"""Arguments that several verbs share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path, typer.Argument(help="Configuration file, such as config/smoke.yaml.", show_default=False)]
Threads = Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to PyTorch.", min=0)]
VariantName = Annotated[str, typer.Option("--variant", help="A name under `variants` of the configuration.")]


class Stage(StrEnum):
    """Training stages."""

    base = "base"
    extension = "extension"


def use_threads(threads: int) -> None:
    """Limit PyTorch to ``threads`` CPU threads unless 0."""
    if threads:
        import torch

        torch.set_num_threads(threads)
