"""What `longgen plan` prints."""

from __future__ import annotations

from typing import Any

from longgen.tables import Table
from longgen.units import binary_size, scaled

IDEAL = "ideal: speed-up over full attention, predicted and not measured"


def print_plans(rows: list[dict[str, Any]], title: str) -> None:
    """A line per row of costs."""
    first = rows[0]
    if "model" in first:
        title = f"{first['model']}, {first['full_layers']}/{first['num_layers']} layers full ({first['placement']})"
    batches = ["batch"] if len({row.get("batch") for row in rows}) > 1 else []
    names = [name for name in ("variant",) if name in first]
    keys, measures = ["length", *batches], ["KV cache", "KV saved", "prefill\nFLOPs"]
    numbers = [*keys, *measures, "ideal\nprefill", "ideal\ndecode", "ideal\ntraining"]
    table = Table(names, numbers, title, IDEAL, keys=len(names) + len(keys))
    for row in rows:
        table.add(
            *(row[name] for name in names),
            f"{row['length']:,}",
            *(str(row[name]) for name in batches),
            binary_size(row["kv_bytes"]),
            f"{100 * (1 - row['kv_fraction']):.1f} %",
            scaled(row["prefill_flops"], 1000, ("", "k", "M", "G", "T", "P")),
            *speedups(row),
        )
    table.print()


def speedups(row: dict[str, Any]) -> list[str]:
    """The ideals of prefill, decode and training."""
    return [f"{row[f'ideal_{stage}_speedup']:.2f}x" for stage in ("prefill", "decode", "training")]
