"""`longgen plan`: KV bytes, FLOPs and ideal speed-ups of a hybrid, by arithmetic alone (no torch, no GPU)."""

from __future__ import annotations

import json
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
    sparse_pattern,
)
from longgen.cli.plan_options import (
    DEFAULT_LENGTH,
    DEFAULT_PLACEMENT,
    FullLayers,
    Model,
    Placement,
    model_and_layout,
    refuse_beside_config,
)
from longgen.cli.plan_train import train
from longgen.units import binary_size, scaled

app = typer.Typer()
app.command("train")(train)


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
    batch: Annotated[int | None, typer.Option(help="Sequences.", show_default="1")] = None,
    bytes_per_value: Annotated[
        int | None, typer.Option(help="Bytes of a weight and of a cached value.", show_default="2")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Plan all variants of this experiment instead, in 32-bit floats.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="With --config: the results file to write.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object per line instead of a table.")] = False,
) -> None:
    """Predict KV cache, FLOPs and ideal speed-ups over full attention; `plan train`: memory and time of training.

    The ideals are by FLOPs for prefill and training, by bytes read for decoding: predictions, not measurements.
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
    }
    asked = given(options)
    if context.invoked_subcommand:
        if asked or config or output:
            raise ConfigError(f"{option_names(asked) or '--config'} given before train: allowed are options after it")
        return
    rows = _plan_experiment(config, output, asked) if config else _plan_model(output, asked)
    if as_json:
        for row in rows:
            # three digits are all that the comparison with the paper's -62 % can carry
            rounded = {"kv_reduction": round(row["kv_reduction"], 3)} if "kv_reduction" in row else {}
            print(json.dumps(row | rounded))
    else:
        _print_table(rows, title=str(config or model))


def _plan_model(output: Path | None, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per length, for a model and the pattern that the options describe."""
    from dataclasses import asdict

    from longgen.errors import ConfigError
    from longgen.planner import make_plan

    if output:
        raise ConfigError(f"--output is '{output}': allowed is a path with --config only")
    shape, layout = model_and_layout(asked)
    pattern = sparse_pattern(asked)
    described = {
        "model": shape.name,
        "placement": asked.get("placement", DEFAULT_PLACEMENT),
        "full_layers": layout.num_full,
        "num_layers": layout.num_layers,
        "pattern": pattern.to_dict(),
    }
    chosen = {name: asked[name] for name in ("batch", "bytes_per_value") if name in asked}
    lengths = _lengths(asked.get("length", [DEFAULT_LENGTH]))
    return [described | asdict(make_plan(shape, layout, pattern, length, **chosen)) for length in lengths]


def _lengths(words: list[str]) -> list[int]:
    from longgen.errors import ConfigError

    lengths = [word.strip() for words_ in words for word in words_.split(",")]
    for word in lengths:
        if not word.isdecimal() or int(word) < 1:
            raise ConfigError(f"--length is {word!r}: allowed are whole numbers >= 1, such as 4096,131072")
    return [int(word) for word in lengths]


def _plan_experiment(config: Path, output: Path | None, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """One row per variant and length of an experiment; written to ``output`` as a results file of kind ``plan``."""
    from longgen.config import load_experiment
    from longgen.planner import experiment_records, experiment_settings
    from longgen.provenance import provenance
    from longgen.results import Result, save_result

    refuse_beside_config(asked)
    experiment = load_experiment(config)
    settings, records = experiment_settings(experiment), experiment_records(experiment)
    if output:
        lengths = sorted({record["length"] for record in records})
        origin = provenance({"settings": settings, "lengths": lengths}, experiment.seed)
        save_result(output, Result("plan", experiment.name, records, origin, settings=settings))
    return records


def _print_table(rows: list[dict[str, Any]], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    first = rows[0]
    if "model" in first:
        title = f"{first['model']}, {first['full_layers']}/{first['num_layers']} layers full ({first['placement']})"
    table = Table(
        title=title, caption="ideal: speed-up over full attention, predicted and not measured", box=box.SIMPLE
    )
    names = [name for name in ("variant",) if name in first]
    for name in names:
        table.add_column(name, no_wrap=True)
    measures = ("length", "KV cache", "KV saved", "prefill\nFLOPs")
    for heading in (*measures, "ideal\nprefill", "ideal\ndecode", "ideal\ntraining"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            *(row[name] for name in names),
            f"{row['length']:,}",
            binary_size(row["kv_bytes"]),
            f"{100 * (1 - row['kv_fraction']):.1f} %",
            scaled(row["prefill_flops"], 1000, ("", "k", "M", "G", "T", "P")),
            *(f"{row[f'ideal_{stage}_speedup']:.2f}x" for stage in ("prefill", "decode", "training")),
        )
    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # the 80 that rich assumes for a file would cut the columns
    console.print(table)
