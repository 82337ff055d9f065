"""Options of `longgen profile` that measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from longgen.cli.options.compute import DtypeOption
from longgen.cli.options.parameters import OUTPUT_FOLDER, Options
from longgen.cli.options.shared import RESULTS, ConfigArgument, ModelArgument
from longgen.errors import require
from longgen.units import seconds_of_minutes

# Tokens of the paper's shapes, and of a trial.
LENGTHS = "131072,32768,65536"
TRAIN_TRIAL, INFERENCE_TRIAL = "512,1024", "512,256"
SHAPE = "llama2-7b"


@dataclass(frozen=True, kw_only=True)
class ProfileExperimentOptions(Options):
    """Uses models of the configured shape with random weights. For honest times, run nothing else beside it: how busy
    the machine was is recorded, and a warning says which share of the times is disturbed.
    """

    config: ConfigArgument
    output: Annotated[Path, typer.Option(help="Folder for speed.json and memory.json."), OUTPUT_FOLDER]
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Repeat for several.", show_default="the default variants")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ModelProfileOptions(Options):
    """What profiles of a true model's training and inference share."""

    shape: Annotated[
        str | None, typer.Option(help=f"Model, such as {SHAPE}.", show_default=f"{SHAPE}; on a CPU tiny")
    ] = None
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="cuda where there is one")] = None
    minutes: Annotated[float, typer.Option(help="Time to spend: what would take longer waits for a second call.")] = 8.5
    layers: Annotated[
        int | None,
        typer.Option(
            help="Most layers of a slice; fewer where these do not fit.", show_default="8; 1 at true shapes on a CPU"
        ),
    ] = None
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default="kernels-DEVICE")] = None
    output: Annotated[Path, typer.Option(help="Folder of the runs."), OUTPUT_FOLDER] = RESULTS

    def __post_init__(self) -> None:
        seconds_of_minutes(self.minutes)


@dataclass(frozen=True, kw_only=True)
class ProfileTrainOptions(ModelProfileOptions):
    """A few layers of the model's true shape under its embeddings and LM head, as many as fit; from slices of different
    layers the step of the whole model is composed. On a CPU it is composed of parts of single layers.
    """

    lengths: Annotated[
        str | None, typer.Option(help="Tokens, separated by commas.", show_default=f"{LENGTHS}; tiny {TRAIN_TRIAL}")
    ] = None


@dataclass(frozen=True, kw_only=True)
class ProfileInferenceOptions(ModelProfileOptions):
    """LongGen against full attention at the model's true shape: the whole model where it fits in memory, and the model
    composed of slices of a few layers; on a CPU of single layers alone. Where full attention does not fit at the
    longest length, both are compared at the longest at which it does.
    """

    lengths: Annotated[
        str | None,
        typer.Option(help="Tokens, separated by commas.", show_default=f"{LENGTHS}; tiny {INFERENCE_TRIAL}"),
    ] = None
    batch: Annotated[int, typer.Option(help="Sequences at a time, all of the same length: 1 to 64.")] = 1


@dataclass(frozen=True, kw_only=True)
class ProfileServingOptions(Options):
    """The same weights twice, in a KV cache of the same size: as the hybrid, and with full attention in all layers. All
    requests are there from the beginning. Needs vLLM (docs/serving.md).

    Example: longgen profile serving path/to/hybrid --kv-gib 0.75 --load 16384x5 --load 8192x8 --name my-run
    """

    model: ModelArgument
    kv_gib: Annotated[float, typer.Option(help="Memory for the KV cache of the engine, in GiB.")]
    load: Annotated[
        list[str], typer.Option(help="Tokens of a prompt x how many requests, such as 8192x8; repeat for several.")
    ]
    new_tokens: Annotated[int, typer.Option(help="That each request is answered with.", min=1)] = 64
    chunk: Annotated[int, typer.Option(help="Tokens of a step of the engine, at most.", min=1)] = 512
    dtype: DtypeOption = "bfloat16"
    minutes: Annotated[float, typer.Option(help="Time to spend: what would take longer waits for a second call.")] = 60
    name: Annotated[str, typer.Option(help="Name of the run.")] = "serving-cpu"
    output: Annotated[Path, typer.Option(help="Folder of the runs."), OUTPUT_FOLDER] = RESULTS

    def __post_init__(self) -> None:
        seconds_of_minutes(self.minutes)
        require(self.kv_gib > 0, "--kv-gib", self.kv_gib, "a number > 0")
        for load in self.load:
            length, by, requests = load.partition("x")
            numbers = all(word.isdecimal() and int(word) > 0 for word in (length, requests))
            require(bool(by) and numbers, "--load", load, "TOKENSxREQUESTS, such as 8192x8")
