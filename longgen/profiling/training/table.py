"""The records of a session of training steps as text to read in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from longgen.profiling.attention.session import MEASURED
from longgen.profiling.text import aligned, disturbance_lines, number, timed_cells
from longgen.profiling.training.records import Record

_COLUMNS = ("what", "model", "tokens", "layers", "full", "pattern", "ms", "speed-up", "ideal", "MFU", "GiB")


def training_table(records: Sequence[Record]) -> str:
    """A row per measured or composed time, and a line for what was not measured."""
    rows, lines = [], []
    for record in records:
        if record["status"] != MEASURED:
            where = f"{record['shape']} at {record['length']:,} tokens"
            lines.append(f"{record['status']}: training of {where}: {record['reason']}")
            continue
        rows.append(
            (
                *(record["what"], record["shape"], f"{record['length']:,}"),
                *(str(record["num_layers"]), str(record["full_layers"]), record["pattern"]),
                *timed_cells(record, ",.1f"),
                number(record["ideal_speedup"], ".3f"),
                number(record["mfu"], ".1%"),
                number(record["peak_bytes"] and record["peak_bytes"] / 2**30, ".1f"),
            )
        )
    return "\n".join([*aligned(_COLUMNS, rows, keys=6, words=2), *lines, *disturbance_lines(records)])
