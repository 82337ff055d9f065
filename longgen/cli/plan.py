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
from longgen.units import binary_size, scaled

# Our choice where the paper is silent.
DEFAULT_LENGTH = "131072"
DEFAULT_FULL_LAYERS = "1/3"


def plan(
    model: Annotated[
        str | None, typer.Option(help="Name such as llama2-7b, or path of a config.json or of the folder that has it.")
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(help="Tokens; repeat it or separate by commas for several.", show_default=DEFAULT_LENGTH),
    ] = None,
    full_layers: Annotated[
        str | None,
        typer.Option(help="Layers that stay full: a count, a fraction, all or none.", show_default=DEFAULT_FULL_LAYERS),
    ] = None,
    placement: Annotated[
        str | None,
        typer.Option(help="Where they are: middle, ends, bottom, top, interleaved.", show_default="middle"),
    ] = None,
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
    """Predict KV cache, FLOPs and ideal speed-ups over full attention.

    The ideals are by FLOPs for prefill and training, by bytes read for decoding: predictions, not measurements.
    """
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
    from longgen.layout import make_layout
    from longgen.planner import make_plan
    from longgen.shapes import MODEL_SHAPES, model_shape

    if output:
        raise ConfigError(f"--output is '{output}': allowed is a path with --config only")
    if "model" not in asked:
        raise ConfigError(f"--model is missing: allowed are {', '.join(MODEL_SHAPES)}, or a path; or give --config")
    shape = model_shape(asked["model"])
    placement = asked.get("placement", "middle")
    layout = make_layout(shape.num_layers, asked.get("full_layers", DEFAULT_FULL_LAYERS), placement)
    pattern = sparse_pattern(asked)
    described = {
        "model": shape.name,
        "placement": placement,
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
    from longgen.errors import ConfigError
    from longgen.planner import experiment_records, experiment_settings
    from longgen.provenance import provenance
    from longgen.results import Result, save_result

    if asked:
        raise ConfigError(
            f"{option_names(asked)} given with --config: allowed is one or the other, since the file says it all"
        )
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
