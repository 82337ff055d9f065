"""The records of a session of training steps as text to read in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from longgen.profiling.attention.session import MEASURED
from longgen.profiling.training.records import Record


def training_table(records: Sequence[Record]) -> str:
    """A row per measured or composed time, and a line for what was not measured."""
    rows = [("what", "model", "tokens", "layers", "full", "pattern", "ms", "speed-up", "ideal", "MFU", "GiB")]
    lines = []
    for record in records:
        if record["status"] != MEASURED:
            where = f"{record['shape']} at {record['length']:,} tokens"
            lines.append(f"{record['status']}: training of {where}: {record['reason']}")
            continue
        rows.append(
            (
                *(record["what"], record["shape"], f"{record['length']:,}"),
                *(str(record["num_layers"]), str(record["full_layers"]), record["pattern"]),
                f"{1e3 * record['seconds']:,.1f}",
                _number(record["speedup"], ".3f"),
                _number(record["ideal_speedup"], ".3f"),
                _number(record["mfu"], ".1%"),
                _number(record["peak_bytes"] and record["peak_bytes"] / 2**30, ".1f"),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*table, *lines])


def _number(value: float | None, style: str) -> str:
    return "-" if value is None else format(value, style)
