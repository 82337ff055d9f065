"""`longgen plan train`: memory per GPU and time of a training set-up, by arithmetic alone (no torch, no GPU)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from longgen.cli.options import (
    BlockSize,
    LocalBlocks,
    PatternName,
    SinkBlocks,
    Staggered,
    Stride,
    given,
    refuse_beside_config,
    sparse_pattern,
)
from longgen.cli.plan_options import (
    DEFAULT_LENGTH,
    FullLayers,
    Model,
    Placement,
    model_and_layout,
)
from longgen.cli.plan_train_tables import as_record, print_tables

if TYPE_CHECKING:
    from longgen.planner.training import TrainingPlan

# 32 rows of 128K are 4.2 million tokens per step, as many as in Llama 2's pretraining (arXiv 2307.09288): our choice.
# The 5 billion tokens in all are the paper's.
DEFAULT_BATCH, DEFAULT_TOKENS = 32, 5_000_000_000
DEFAULT_GPUS = 8

_SETUP, _MACHINE = "Set-up", "Machine"
# Name of a plan in a table -> plan
Plans = dict[str, "TrainingPlan"]


def train(
    model: Model = None,
    length: Annotated[int | None, typer.Option(help="Tokens per row.", show_default=DEFAULT_LENGTH)] = None,
    full_layers: FullLayers = None,
    placement: Placement = None,
    pattern: PatternName = None,
    block_size: BlockSize = None,
    sink_blocks: SinkBlocks = None,
    local_blocks: LocalBlocks = None,
    stride: Stride = None,
    staggered: Staggered = False,
    batch: Annotated[
        int | None, typer.Option(help="Rows per optimizer step, over all GPUs.", show_default=str(DEFAULT_BATCH))
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Optimizer steps.", show_default="5 billion tokens' worth, as in the paper")
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(help="Of weights and activations in the layers: bfloat16 or float32.", show_default="bfloat16"),
    ] = None,
    optimizer: Annotated[str | None, typer.Option(help="adamw or muon.", show_default="adamw")] = None,
    sequence_parallel: Annotated[
        int | None,
        typer.Option(help="GPUs that share the tokens of a row.", show_default="1", rich_help_panel=_SETUP),
    ] = None,
    micro_batch: Annotated[
        int | None,
        typer.Option(help="Rows per forward pass of such a group.", show_default="1", rich_help_panel=_SETUP),
    ] = None,
    recompute: Annotated[
        bool | None,
        typer.Option(
            "--recompute/--no-recompute",
            help="Keep the layers' inputs alone.",
            show_default="recompute",
            rich_help_panel=_SETUP,
        ),
    ] = None,
    offload_activations: Annotated[
        bool, typer.Option("--offload-activations", help="Keep them in main memory.", rich_help_panel=_SETUP)
    ] = False,
    offload_parameters: Annotated[
        bool,
        typer.Option(
            "--offload-parameters",
            help="Keep weights, gradients and optimizer state in main memory.",
            rich_help_panel=_SETUP,
        ),
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(
            help="In all; with --config, for set-ups that leave it open.",
            show_default=str(DEFAULT_GPUS),
            rich_help_panel=_MACHINE,
        ),
    ] = None,
    gpu: Annotated[
        str, typer.Option(help="h100-80gb, h200, a100-80gb, a100-40gb, l40s, rtx-4090, b200.", rich_help_panel=_MACHINE)
    ] = "h100-80gb",
    gpus_per_node: Annotated[int, typer.Option(help="With a fast link between them.", rich_help_panel=_MACHINE)] = 8,
    network_gb: Annotated[
        float, typer.Option(help="GB/s and direction between nodes, per GPU.", rich_help_panel=_MACHINE)
    ] = 50,
    efficiency: Annotated[
        float,
        typer.Option(
            help="Share of the GPU's peak FLOP/s reached while it computes: assumed, unless you measured it.",
            rich_help_panel=_MACHINE,
        ),
    ] = 0.4,
    config: Annotated[
        Path | None, typer.Option(help="Plan the extension of this experiment instead, with its set-ups.")
    ] = None,
    setup: Annotated[
        str | None, typer.Option(help="With --config: one of its set-ups.", show_default="all for GPUs")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with code 2 if something does not fit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object per line instead of tables.")] = False,
) -> None:
    """Predict memory per GPU, time and MFU of training, and what to change where a set-up does not fit.

    All of it is predicted, and nothing measured. What is counted and assumed: docs/planning-a-training-run.md.
    """
    from longgen.errors import ConfigError
    from longgen.planner.gpus import gpu_named
    from longgen.planner.job import Machine
    from longgen.planner.training import remedies

    options = {
        "model": model,
        "length": length,
        "full_layers": full_layers,
        "placement": placement,
        "pattern": pattern,
        "block_size": block_size,
        "sink_blocks": sink_blocks,
        "local_blocks": local_blocks,
        "stride": stride,
        "staggered": staggered,
        "batch": batch,
        "steps": steps,
        "dtype": dtype,
        "optimizer": optimizer,
        "sequence_parallel": sequence_parallel,
        "micro_batch": micro_batch,
        "offload_activations": offload_activations,
        "offload_parameters": offload_parameters,
    }
    asked = given(options) | ({} if recompute is None else {"recompute": recompute})
    machine = Machine(gpu_named(gpu), gpus_per_node, network_gb * 1e9, efficiency)
    if setup is not None and config is None:
        raise ConfigError(f"--setup is {setup!r}: allowed is a name with --config only")
    plans = _plan_experiment(config, setup, asked, gpus, machine) if config else _plan_model(asked, gpus, machine)
    if as_json:
        for name, plan in plans.items():
            print(json.dumps(as_record(name, plan)))
    else:
        print_tables(plans, title=str(config or ""))
        for name, plan in plans.items():
            if not plan.fits():
                changes = "; or ".join(remedies(plan)) or "nothing that is tried: smaller models, shorter rows"
                print(f"{name} does not fit. What would: {changes}")
    if check and not all(plan.fits() for plan in plans.values()):
        raise typer.Exit(2)


def _plan_model(asked: dict[str, Any], gpus: int | None, machine: Any) -> Plans:
    """The one set-up that the options describe."""
    from longgen import planner
    from longgen.config import OptimizerSettings, PhaseSettings, SetupSettings, TrainingSettings
    from longgen.hybrid import Hybrid
    from longgen.planner.training import plan_training
    from longgen.strict import require

    shape, layout = model_and_layout(asked)
    length, batch = asked.get("length", int(DEFAULT_LENGTH)), asked.get("batch", DEFAULT_BATCH)
    for name, value in (("--length", length), ("--batch", batch)):
        require(value >= 1, name, value, "a whole number >= 1")
    for name, allowed in (("dtype", ("bfloat16", "float32")), ("optimizer", ("adamw", "muon"))):
        require(asked.get(name, allowed[0]) in allowed, f"--{name}", asked.get(name), ", ".join(allowed))
    steps = asked.get("steps", -(-DEFAULT_TOKENS // (length * batch)))
    # what rows are made of does not matter here, nor does the learning rate
    phase = PhaseSettings(length, batch, steps, learning_rate=1e-5)
    optimizer = OptimizerSettings(asked.get("optimizer", "adamw"))
    training = TrainingSettings([phase], optimizer, packed="any", dtype=asked.get("dtype", "bfloat16"))
    processes = DEFAULT_GPUS if gpus is None else gpus
    setup = SetupSettings(
        processes=processes,
        sequence_parallel=asked.get("sequence_parallel", 1),
        micro_batch_size=asked.get("micro_batch", 1),
        recompute=asked.get("recompute", True),
        offload_activations="offload_activations" in asked,
        offload_parameters="offload_parameters" in asked,
        device="cuda",
    )
    plan = plan_training(
        planner.Model(shape, Hybrid(layout, sparse_pattern(asked))), length, batch, training, setup, processes, machine
    )
    return {f"{shape.name} on {processes} GPUs": plan}


def _plan_experiment(config: Path, name: str | None, asked: dict[str, Any], gpus: int | None, machine: Any) -> Plans:
    """Every default variant of an experiment on each of its set-ups, at its longest phase of extension."""
    from longgen import planner
    from longgen.config import load_experiment
    from longgen.errors import ConfigError
    from longgen.planner.training import plan_training

    refuse_beside_config(asked)
    experiment = load_experiment(config)
    if name is not None and name not in experiment.setups:
        raise ConfigError(f"--setup is {name!r}: allowed are {', '.join(experiment.setups)}")
    setups = {key: setup for key, setup in experiment.setups.items() if setup.device == "cuda" and name in (None, key)}
    if not setups:
        raise ConfigError(f"{config}: no set-up has device cuda: allowed are set-ups for GPUs")
    training, shape = experiment.extension, planner.experiment_shape(experiment)
    longest = max(training.phases, key=lambda phase: phase.length)
    plans = {}
    for key, setup in setups.items():
        for variant in map(experiment.variant, experiment.default_variants):
            phase, processes = (longest.length, longest.batch_size), setup.processes or gpus or DEFAULT_GPUS
            try:
                plan = plan_training(planner.Model(shape, variant.hybrid), *phase, training, setup, processes, machine)
            except ConfigError as error:
                raise ConfigError(f"{config}: setups.{key}: {error}") from None
            plans[f"{key}, {variant.name}"] = plan
    return plans
