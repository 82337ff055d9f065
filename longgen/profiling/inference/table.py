"""The records of a session of inference as text to read in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from longgen.profiling.attention.session import MEASURED
from longgen.profiling.inference.records import Record
from longgen.profiling.inference.words import LONGEST
from longgen.profiling.text import aligned, disturbance_lines, number, timed_cells

_COLUMNS = (
    *("what", "", "model", "tokens", "batch", "layers", "full", "pattern"),
    *("ms", "speed-up", "ideal", "KV GiB", "peak GiB"),
)


def inference_table(records: Sequence[Record]) -> str:
    """A row per measured or composed time and per longest context, and a line for what was not measured."""
    rows, lines = [], []
    for record in records:
        if record["status"] != MEASURED:
            tokens = "" if record["length"] is None else f" at {record['length']:,} tokens, batch {record['batch']}"
            stack = "" if record["pattern"] is None else f", {record['full_layers']} full layers, {record['pattern']}"
            lines.append(
                f"{record['status']}: {record['what']} of {record['shape']}{tokens}{stack}: {record['reason']}"
            )
            continue
        origin = "composed" if record["composed"] else "fits" if record["what"] == LONGEST else "measured"
        rows.append(
            (
                *(record["what"], origin, record["shape"], f"{record['length']:,}", str(record["batch"])),
                *(str(record["num_layers"]), str(record["full_layers"]), record["pattern"]),
                *timed_cells(record, ",.2f"),
                number(record["ideal_speedup"], ".3f"),
                *(number(record[size] and record[size] / 2**30, ".2f") for size in ("kv_bytes", "peak_bytes")),
            )
        )
    return "\n".join([*aligned(_COLUMNS, rows, keys=8, words=3), *lines, *disturbance_lines(records)])
