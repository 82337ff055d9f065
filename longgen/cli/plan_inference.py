"""`longgen plan --gpu`, `--ceilings` and `--dense-...`: memory and time of inference, predicted."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from longgen.cli.options.planning import PlanOptions
from longgen.errors import require
from longgen.gpus import GIB
from longgen.model import Model
from longgen.planner import inference
from longgen.planner.rates import device_rates
from longgen.tables import Table

STAGES = ("prefill", "decode")


def more_columns(options: PlanOptions, model: Model, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``rows`` of costs with what the options ask for besides: inference on a GPU, and expected times.

    Args:
        options: those of `longgen plan`.
        model: whose costs they are.
        rows: each with its length, batch and ideal speed-ups.

    Raises:
        ConfigError: an impossible value, or options that need others or exclude them.
        ArtifactError: the file of ceilings is unusable.
    """
    dense = {stage: getattr(options, f"dense_{stage}") for stage in STAGES if f"dense_{stage}" in options.explicit}
    for stage, seconds in dense.items():
        require(math.isfinite(seconds) and seconds > 0, f"--dense-{stage}", seconds, "a number of seconds > 0")
        require(len(rows) == 1, f"--dense-{stage}", seconds, "a time at one --length and one --batch")
    on_gpu = _on_gpu(options, model)
    return [
        row
        | on_gpu(row["length"], row["batch"])
        | {f"dense_{stage}_seconds": seconds for stage, seconds in dense.items()}
        | {f"expected_{stage}_seconds": seconds / row[f"ideal_{stage}_speedup"] for stage, seconds in dense.items()}
        for row in rows
    ]


def _on_gpu(options: PlanOptions, model: Model) -> Callable[[int, int], dict[str, Any]]:
    """Memory and least time with these layers and with full attention; nothing where no GPU is named."""
    chunk = options.prefill_chunk
    if options.gpu is None and options.ceilings is None:
        require("prefill_chunk" not in options.explicit, "--prefill-chunk", chunk, "with --gpu or --ceilings")
        return lambda length, batch: {}
    require(chunk >= 1, "--prefill-chunk", chunk, "a whole number >= 1")
    value_bytes = options.bytes_per_value
    require(value_bytes == inference.VALUE_BYTES, "--bytes-per-value", value_bytes, "2 (bfloat16) with a GPU")
    gpu, rates = device_rates(options.gpu, options.ceilings)
    models = {"": model, "_full_attention": model.full}

    def columns(length: int, batch: int) -> dict[str, Any]:
        row = {"gpu": gpu.name, "rates": rates.source, "prefill_chunk": chunk, "available_bytes": gpu.memory}
        for name, each in models.items():
            memory = inference.inference_memory(each, length, batch, chunk)
            row |= {
                f"memory{name}": memory,
                f"memory_bytes{name}": sum(memory.values()),
                f"fits{name}": sum(memory.values()) <= gpu.memory,
                f"longest_context{name}": inference.longest_context(each, gpu.memory, batch, chunk),
                f"least_prefill_seconds{name}": inference.prefill_seconds(each, length, rates, batch, chunk),
                f"least_decode_seconds{name}": inference.decode_seconds(each, length, rates, batch),
            }
        return row

    return columns


def print_inference(rows: list[dict[str, Any]], title: str) -> None:
    """Memory and least time on the GPU: for every length and batch the hybrid, then full attention.

    Nothing where no GPU was named.
    """
    first = rows[0]
    if "gpu" not in first:
        return
    memory = f"{first['available_bytes'] / GIB:.1f} GiB, of which weights take {first['memory']['weights'] / GIB:.1f}"
    table = Table(
        [],
        [
            *("length", "batch", "full layers"),
            "KV cache\nGiB",
            "in work\nGiB",
            "in all\nGiB",
            "fits",
            "longest\ncontext",
            "least\nprefill",
            "least\ndecode step",
        ],
        f"{title}: inference on {first['gpu']} in bfloat16 ({memory})",
        f"predicted, not measured; least: at the GPU's peak rates ({first['rates']})",
        keys=3,
    )
    for row in rows:
        kinds = {"": f"{row['full_layers']:g}/{row['num_layers']}", "_full_attention": "all"}
        for name, layers in kinds.items():
            parts = row[f"memory{name}"]
            table.add(
                f"{row['length']:,}",
                str(row["batch"]),
                layers,
                *(f"{parts[component] / GIB:.1f}" for component in ("KV cache", "layer in work")),
                f"{row[f'memory_bytes{name}'] / GIB:.1f}",
                "yes" if row[f"fits{name}"] else "no",
                _context(row[f"longest_context{name}"]),
                *(_time(row[f"least_{stage}_seconds{name}"]) for stage in STAGES),
            )
    table.print()


def print_expected(rows: list[dict[str, Any]], title: str) -> None:
    """Times scaled from those that the user measured; nothing where none are given."""
    row = rows[0]
    if not any(f"dense_{stage}_seconds" in row for stage in STAGES):
        return
    caption = "expected: your measurement over the ideal speed-up; predicted, not measured, and seldom reached"
    where = f"{row['length']:,} tokens, batch {row['batch']}"
    numbers = ["full attention, yours", "ideal", "expected"]
    table = Table(["stage"], numbers, f"{title}: expected times at {where}", caption)
    for stage in STAGES:
        if f"dense_{stage}_seconds" in row:
            seconds = [_time(row[f"{kind}_{stage}_seconds"]) for kind in ("dense", "expected")]
            table.add(stage, seconds[0], f"{row[f'ideal_{stage}_speedup']:.2f}x", seconds[1])
    table.print()


def _context(tokens: int) -> str:
    return f"{'>= ' if tokens == inference.LONGEST else ''}{tokens:,}"


def _time(seconds: float) -> str:
    """``1.23 s`` or ``12.3 ms``."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"
