"""`longgen profile`: an experiment's variants, a true model's training or inference, and two runs compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from longgen.cli.options import Config, on_this_machine, use_threads
from longgen.cli.profile_compare import compare_two
from longgen.errors import ConfigError
from longgen.shapes import ModelShape
from longgen.units import seconds_of_minutes

DEFAULT_VERB = "experiment"


class _DefaultVerb(TyperGroup):
    """Verbs of which one need not be said: `longgen profile CONFIG` is `longgen profile experiment CONFIG`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, *ctx.help_option_names):
            args = [DEFAULT_VERB, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_DefaultVerb,
    no_args_is_help=True,
    help="Measure the variants of an experiment (`longgen profile CONFIG`), or training or inference at a true model's "
    "shape; or compare two runs.",
)
app.command("compare")(compare_two)


@app.command(DEFAULT_VERB)
def profile(
    config: Config,
    output: Annotated[Path, typer.Option(help="Folder for speed.json and memory.json.")],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Repeat for several.", show_default="the default variants")
    ] = None,
) -> None:
    """Time prefill, decode and a training step by length against full attention, and weigh the KV cache.

    Uses models of the configured shape with random weights. For honest times, run nothing else beside it: how busy the
    machine was is recorded, and a warning says which share of the times is disturbed.
    """
    from longgen.config import load_experiment, needed

    experiment = on_this_machine(load_experiment(config), "profiling")
    variants = variant or experiment.default_variants
    for name in variants:
        experiment.variant(name)
    if "full" not in variants:
        raise ConfigError(f"--variant is {', '.join(variants)}: 'full' must be one, speed-ups are relative to it")

    from longgen.profiling.busy import warning
    from longgen.profiling.profile import profile_experiment
    from longgen.provenance import provenance
    from longgen.results import Result, save_result

    measured = needed(experiment.profiling, "profiling")
    use_threads(measured.threads)
    speed, memory, attention = profile_experiment(experiment, variants)
    settings = experiment.section("profiling", "model") | {"variants": variants}
    origin = provenance(settings, experiment.seed, measured.device, attention=attention)
    for kind, records in (("speed", speed), ("memory", memory)):
        save_result(output / f"{kind}.json", Result(kind, experiment.name, records, origin, settings=settings))
    if problem := warning(speed):
        print(f"longgen: warning: {problem}", file=sys.stderr)


Shape = Annotated[str | None, typer.Option(help="Model, such as llama2-7b.", show_default="llama2-7b; on a CPU tiny")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="cuda where there is one")]
Minutes = Annotated[float, typer.Option(help="Time to spend: what would take longer waits for a second call.")]
Layers = Annotated[
    int | None,
    typer.Option(
        help="Most layers of a slice; fewer where these do not fit.", show_default="8; 1 at true shapes on a CPU"
    ),
]
Batch = Annotated[int, typer.Option(help="Sequences at a time, all of the same length: 1 to 64.")]
Name = Annotated[str | None, typer.Option(help="Name of the run.", show_default="kernels-DEVICE")]
Output = Annotated[Path, typer.Option(help="Folder of the runs.")]


@app.command("train")
def train(
    shape: Shape = None,
    lengths: Annotated[
        str | None, typer.Option(help="Tokens, separated by commas.", show_default="131072,32768,65536; tiny 512,1024")
    ] = None,
    device: Device = None,
    minutes: Minutes = 8.5,
    layers: Layers = None,
    name: Name = None,
    output: Output = Path("results"),
) -> None:
    """Time the training step of a slice of a model with random weights: LongGen against full attention.

    A few layers of the model's true shape under its embeddings and LM head, as many as fit; from slices of different
    layers the step of the whole model is composed. On a CPU it is composed of parts of single layers.
    """
    from longgen.profiling.attention.session import Budget
    from longgen.profiling.stacks import TINY, is_trial
    from longgen.profiling.training.session import open_training_file, profile_training
    from longgen.profiling.training.table import training_table

    seconds = seconds_of_minutes(minutes)
    asked = _asked(shape, device, layers, name)
    tokens = _lengths(lengths or ("512,1024" if asked.shape == TINY else "131072,32768,65536"))
    file = open_training_file(output, asked.run, asked.device, is_trial(asked.device, asked.shape))
    cases = [(asked.shape, length) for length in tokens]
    profile_training(file, cases, asked.device, Budget(seconds), asked.most_layers)
    print(training_table(file.result.records))
    print(f"results: {file.path}")


@app.command("inference")
def inference(
    shape: Shape = None,
    lengths: Annotated[
        str | None, typer.Option(help="Tokens, separated by commas.", show_default="131072,32768,65536; tiny 512,256")
    ] = None,
    device: Device = None,
    minutes: Minutes = 8.5,
    layers: Layers = None,
    batch: Batch = 1,
    name: Name = None,
    output: Output = Path("results"),
) -> None:
    """Time prefill and decoding of a model with random weights, and find how long a context fits.

    LongGen against full attention at the model's true shape: the whole model where it fits in memory, and the model
    composed of slices of a few layers; on a CPU of single layers alone. Where full attention does not fit at the
    longest length, both are compared at the longest at which it does.
    """
    from longgen.profiling.attention.session import Budget
    from longgen.profiling.inference.cases import cases_of, check_batch
    from longgen.profiling.inference.session import open_inference_file, profile_inference
    from longgen.profiling.inference.table import inference_table
    from longgen.profiling.stacks import TINY, is_trial

    seconds = seconds_of_minutes(minutes)
    asked = _asked(shape, device, layers, name)
    if problem := check_batch(batch):
        raise ConfigError(problem)
    tokens = _lengths(lengths or ("512,256" if asked.shape == TINY else "131072,32768,65536"))
    file = open_inference_file(output, asked.run, asked.device, is_trial(asked.device, asked.shape))
    cases = cases_of(asked.shape, tokens, batch, asked.device)
    profile_inference(file, cases, asked.device, Budget(seconds), asked.most_layers)
    print(inference_table(file.result.records))
    print(f"results: {file.path}")


class _Asked(NamedTuple):
    """What the options say, checked: on which device, a whole model, most layers of a slice, and a run."""

    device: str
    shape: ModelShape
    most_layers: int
    run: str


def _asked(shape: str | None, device: str | None, layers: int | None, name: str | None) -> _Asked:
    import torch

    from longgen.profiling.device import precision_on
    from longgen.profiling.gpu import check_device, default_name
    from longgen.profiling.stacks import FEWEST_LAYERS, MOST_LAYERS, SHAPES, TINY, is_large_for
    from longgen.results import check_run_name

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if problem := check_device(device):
        raise ConfigError(problem)
    shape = shape or (TINY.name if device == "cpu" else "llama2-7b")
    if shape not in SHAPES:
        raise ConfigError(f"--shape is {shape!r}: allowed are {', '.join(SHAPES)}")
    large = is_large_for(device, SHAPES[shape])
    most_layers = (FEWEST_LAYERS if large else MOST_LAYERS) if layers is None else layers
    if not FEWEST_LAYERS <= most_layers <= SHAPES[shape].num_layers:
        allowed = f"{FEWEST_LAYERS}..{SHAPES[shape].num_layers}"
        raise ConfigError(f"--layers is {most_layers}: allowed are {allowed} with {shape}")
    if large and precision_on(device) == "float32":
        typer.echo("this CPU has no instructions for bfloat16: weights, activations and cache are float32", err=True)
    return _Asked(device, SHAPES[shape], most_layers, check_run_name(name or default_name(device)))


def _lengths(words: str) -> list[int]:
    found = [word.strip() for word in words.split(",")]
    for word in found:
        if not word.isdecimal() or int(word) < 1:
            raise ConfigError(f"--lengths is {word!r}: allowed are whole numbers >= 1, such as 32768,131072")
    return [int(word) for word in found]
