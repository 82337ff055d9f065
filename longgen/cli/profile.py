"""`longgen profile`: speed and memory of an experiment's variants; `longgen profile train`: training steps on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from longgen.cli.options import Config, use_threads
from longgen.errors import ConfigError

DEFAULT_VERB = "experiment"


class _DefaultVerb(TyperGroup):
    """Verbs of which one need not be said: `longgen profile CONFIG` is `longgen profile experiment CONFIG`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = [DEFAULT_VERB, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_DefaultVerb,
    no_args_is_help=True,
    help="Measure: the variants of an experiment (`longgen profile CONFIG`), or training at a true model's shapes.",
)


@app.command(DEFAULT_VERB)
def profile(
    config: Config,
    output: Annotated[Path, typer.Option(help="Folder for speed.json and memory.json.")],
    variant: Annotated[
        list[str] | None, typer.Option("--variant", help="Repeat for several.", show_default="the default variants")
    ] = None,
) -> None:
    """Time prefill, decode and a training step by length against full attention, and weigh the KV cache.

    Uses models of the configured shape with random weights. For honest times, run nothing else beside it.
    """
    from longgen.config import load_experiment, needed

    experiment = load_experiment(config)
    variants = variant or experiment.default_variants
    for name in variants:
        experiment.variant(name)
    if "full" not in variants:
        raise ConfigError(f"--variant is {', '.join(variants)}: 'full' must be one, speed-ups are relative to it")

    from longgen.profiling.profile import profile_experiment
    from longgen.provenance import provenance
    from longgen.results import Result, save_result

    use_threads(needed(experiment.profiling, "profiling").threads)
    speed, memory, attention = profile_experiment(experiment, variants)
    settings = experiment.section("profiling", "model") | {"variants": variants}
    origin = provenance(settings, experiment.seed, attention=attention)
    for kind, records in (("speed", speed), ("memory", memory)):
        save_result(output / f"{kind}.json", Result(kind, experiment.name, records, origin, settings=settings))


@app.command("train")
def train(
    shape: Annotated[
        str | None, typer.Option(help="Model, such as llama2-7b.", show_default="llama2-7b; on a CPU tiny")
    ] = None,
    lengths: Annotated[
        str | None, typer.Option(help="Tokens, separated by commas.", show_default="131072,32768,65536; tiny 512,1024")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda.", show_default="cuda where there is one")] = None,
    minutes: Annotated[float, typer.Option(help="Time to spend; a second call goes on.")] = 8.5,
    layers: Annotated[
        int | None, typer.Option(help="Most layers of a slice; fewer where these do not fit.", show_default="8")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default="kernels-DEVICE")] = None,
    output: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("results"),
) -> None:
    """Time the training step of a slice of a model with random weights: LongGen against full attention.

    A few layers of the model's true shape under its embeddings and LM head, as many as fit; from slices of different
    layers the step of the whole model is composed.
    """
    import torch

    from longgen.profiling.attention.session import Budget
    from longgen.profiling.gpu import check_device, default_name
    from longgen.profiling.stacks import FEWEST_LAYERS, MOST_LAYERS, SHAPES, TINY
    from longgen.profiling.training.session import open_training_file, profile_training
    from longgen.profiling.training.table import training_table
    from longgen.results import check_run_name

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if problem := check_device(device):
        raise ConfigError(problem)
    shape = shape or (TINY.name if device == "cpu" else "llama2-7b")
    if shape not in SHAPES:
        raise ConfigError(f"--shape is {shape!r}: allowed are {', '.join(SHAPES)}")
    most_layers = MOST_LAYERS if layers is None else layers
    if not FEWEST_LAYERS <= most_layers <= SHAPES[shape].num_layers:
        allowed = f"{FEWEST_LAYERS}..{SHAPES[shape].num_layers}"
        raise ConfigError(f"--layers is {most_layers}: allowed are {allowed} with {shape}")
    tokens = _lengths(lengths or ("512,1024" if shape == TINY.name else "131072,32768,65536"))
    file = open_training_file(output, check_run_name(name or default_name(device)), device)
    profile_training(file, [(SHAPES[shape], length) for length in tokens], device, Budget(60 * minutes), most_layers)
    print(training_table(file.result.records))
    print(f"results: {file.path}")


def _lengths(words: str) -> list[int]:
    found = [word.strip() for word in words.split(",")]
    for word in found:
        if not word.isdecimal() or int(word) < 1:
            raise ConfigError(f"--lengths is {word!r}: allowed are whole numbers >= 1, such as 32768,131072")
    return [int(word) for word in found]
