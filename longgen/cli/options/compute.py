"""Options of verbs that compute with a model: in what, on what, and with how many threads."""

from __future__ import annotations

from typing import Annotated, get_args

import typer

from longgen.cli.options.parameters import OneOf
from longgen.config.parts import Device
from longgen.hardware import ModelDtype

DtypeOption = Annotated[str, typer.Option(help="Of weights and activations."), OneOf(get_args(ModelDtype))]
DeviceOption = Annotated[str, typer.Option(help=f"That computes: {', '.join(get_args(Device))}.")]
ThreadsOption = Annotated[int, typer.Option(help="CPU threads; 0 leaves the choice to PyTorch.", min=0)]
