"""`longgen plan`: what a hybrid costs, and what a KV budget buys, by arithmetic alone (no torch, no GPU)."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from longgen.cli.options import (
    BlockSize,
    LocalBlocks,
    PatternName,
    SinkBlocks,
    Staggered,
    Stride,
    given,
    option_names,
    refuse_beside_config,
    sparse_pattern,
)
from longgen.cli.plan_budget import budget_rows, print_budget
from longgen.cli.plan_cluster import cluster
from longgen.cli.plan_inference import more_columns, print_expected, print_inference
from longgen.cli.plan_options import (
    DEFAULT_LENGTH,
    DEFAULT_PLACEMENT,
    FullLayers,
    Model,
    Placement,
    model_and_layout,
    whole_numbers,
)
from longgen.cli.plan_tables import print_plans
from longgen.cli.plan_train import train

_GPU, _DENSE = "Inference on a GPU", "Calibration by a measurement of full attention"

app = typer.Typer()
app.command("train")(train)
app.command("cluster")(cluster)


@app.callback(invoke_without_command=True)
def plan(
    context: typer.Context,
    model: Model = None,
    length: Annotated[
        list[str] | None,
        typer.Option(help="Tokens; repeat it or separate by commas for several.", show_default=DEFAULT_LENGTH),
    ] = None,
    full_layers: FullLayers = None,
    placement: Placement = None,
    pattern: PatternName = None,
    block_size: BlockSize = None,
    sink_blocks: SinkBlocks = None,
    local_blocks: LocalBlocks = None,
    stride: Stride = None,
    staggered: Staggered = False,
    batch: Annotated[
        list[str] | None, typer.Option(help="Sequences; several as with --length.", show_default="1")
    ] = None,
    bytes_per_value: Annotated[
        int | None, typer.Option(help="Bytes of a weight and of a cached value.", show_default="2")
    ] = None,
    kv_budget: Annotated[
        float | None,
        typer.Option(help="List the layouts that keep at most this share of full attention's KV cache, such as 0.38."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="Memory and least time of inference on one: h100-80gb, h200, a100-80gb, a100-40gb, l40s, rtx-4090, "
            "b200.",
            rich_help_panel=_GPU,
        ),
    ] = None,
    ceilings: Annotated[
        Path | None,
        typer.Option(
            help="device-limits.json that `python -m longgen.profiling.gpu` measured: wins over the datasheet.",
            rich_help_panel=_GPU,
        ),
    ] = None,
    prefill_chunk: Annotated[
        int | None,
        typer.Option(help="Tokens per forward pass over the prompt.", show_default="4096", rich_help_panel=_GPU),
    ] = None,
    dense_prefill: Annotated[
        float | None,
        typer.Option(
            help="Seconds that full attention took for this prompt: scaled to the hybrid.", rich_help_panel=_DENSE
        ),
    ] = None,
    dense_decode: Annotated[
        float | None,
        typer.Option(help="Seconds of one of its decode steps after it: likewise.", rich_help_panel=_DENSE),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Plan all variants of this experiment instead, in its own dtype.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="With --config: the results file to write.")] = None,
    probe: Annotated[
        list[Path] | None,
        typer.Option(help="With --output: record of `longgen probe`, for variants that it places; repeat for several."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object per line instead of a table.")] = False,
) -> None:
    """Predict KV cache, FLOPs and ideal speed-ups over full attention; `plan train`: memory and time of training;
    `plan cluster`: jobs, hours and storage of a whole run.

    The ideals are by FLOPs for prefill and training, by bytes read for decoding: predictions, not measurements. What
    is counted and assumed: docs/planning.md.
    """
    from longgen.errors import ConfigError

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
        "bytes_per_value": bytes_per_value,
        "kv_budget": kv_budget,
        "gpu": gpu,
        "ceilings": ceilings,
        "prefill_chunk": prefill_chunk,
        "dense_prefill": dense_prefill,
        "dense_decode": dense_decode,
    }
    asked = given(options)
    if context.invoked_subcommand:
        if asked or config or output:
            names = option_names(asked) or "--config"
            raise ConfigError(f"{names} given before {context.invoked_subcommand}: allowed are options after it")
        return
    if probe and not output:
        raise ConfigError(f"--probe is {', '.join(map(str, probe))}: allowed is one with --output, which has layouts")
    if output and not config:
        raise ConfigError(f"--output is '{output}': allowed is a path with --config only")
    if kv_budget is not None and not config:
        rows = budget_rows(asked)
        tables: tuple[Callable[[list[dict[str, Any]], str], None], ...] = (print_budget,)
    else:
        rows = _plan_experiment(config, output, probe or [], asked) if config else _plan_model(asked)
        tables = (print_plans, print_inference, print_expected)
    if as_json:
        for row in rows:
            # three digits are all that the comparison with the paper's -62 % can carry
            rounded = {"kv_reduction": round(row["kv_reduction"], 3)} if "kv_reduction" in row else {}
            print(json.dumps(row | rounded))
    else:
        for show in tables:
            show(rows, str(config or model))


def _plan_model(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per length and batch, for a model and the pattern that the options describe."""
    from dataclasses import asdict

    from longgen.hybrid import Hybrid
    from longgen.planner import Model, make_plan

    shape, layout = model_and_layout(asked)
    pattern = sparse_pattern(asked)
    model = Model(shape, Hybrid(layout, pattern))
    described = {
        "model": shape.name,
        "placement": asked.get("placement", DEFAULT_PLACEMENT),
        "full_layers": layout.num_full,
        "num_layers": layout.num_layers,
        "pattern": pattern.to_dict(),
    }
    value_bytes = asked.get("bytes_per_value", 2)
    cases = product(whole_numbers(asked, "length", DEFAULT_LENGTH), whole_numbers(asked, "batch", "1"))
    rows = [
        described | {"batch": batch} | asdict(make_plan(model, length, batch, value_bytes)) for length, batch in cases
    ]
    return more_columns(asked, model, rows)


def _plan_experiment(
    config: Path, output: Path | None, probes: list[Path], asked: dict[str, Any]
) -> list[dict[str, Any]]:
    """One row per variant and length of an experiment; written to ``output`` as a results file of kind ``plan``."""
    from longgen.config import load_experiment
    from longgen.planner import experiment_records, experiment_settings
    from longgen.probing.layouts import read_probe
    from longgen.provenance import provenance
    from longgen.results import Result, save_result

    refuse_beside_config(asked)
    experiment = load_experiment(config)
    records = experiment_records(experiment)
    if output:
        settings = experiment_settings(experiment, [read_probe(path) for path in probes])
        lengths = sorted({record["length"] for record in records})
        origin = provenance({"settings": settings, "lengths": lengths}, experiment.seed)
        save_result(output, Result("plan", experiment.name, records, origin, settings=settings))
    return records
