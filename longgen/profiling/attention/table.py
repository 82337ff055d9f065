"""The records of a session as text to read in a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from longgen.profiling.attention.session import MEASURED
from longgen.profiling.text import aligned, number

Record = dict[str, Any]
_COLUMNS = (
    *("stage", "model", "length", "batch", "pattern", "implementation"),
    *("ms", "TFLOP/s", "GB/s", "ideal", "x dense"),
)


def checks_table(records: Sequence[Record]) -> str:
    """Every check that did not pass, and the largest error of every dtype among those that did."""
    lines, reasons = [], Counter[str]()
    for record in records:
        if record["passed"] is None:
            reasons[f"{record['status']}: {record['reason']}"] += 1
        elif not record["passed"]:
            where = f"{record['dtype']}, {_heads(record)}, {record['length']:,} tokens, {record['pattern']}"
            error = record["reason"] or f"error {record['error']:.1e}, allowed {record['tolerance']:.0e}"
            lines.append(f"WRONG: {record['what']}, {record['tensor']}: {error} ({where})")
    lines += [f"{reason} ({count} checks)" for reason, count in reasons.items()]
    for dtype in dict.fromkeys(record["dtype"] for record in records):
        errors = [record["error"] for record in records if record["dtype"] == dtype and record["passed"]]
        if errors:
            lines.append(f"{dtype}: {len(errors)} comparisons passed, largest relative error {max(errors):.1e}")
    return "\n".join(lines)


def speed_table(records: Sequence[Record], limits: Sequence[Record]) -> str:
    """A row per measurement; what was not measured in a line of its own; and from which length on we beat dense."""
    lines = [f"{limit['quantity']}: {limit['value']:.3g} {limit['unit']}" for limit in limits]
    rows = []
    for record in sorted(records, key=_order):
        if record["status"] == MEASURED:
            rows.append(
                (
                    *(
                        record["stage"],
                        record["shape"],
                        f"{record['length']:,}",
                        str(record["batch"]),
                        record["pattern"],
                    ),
                    record["implementation"],
                    f"{1e3 * record['seconds']:.3f}",
                    f"{record['flops_per_second'] / 1e12:.1f}",
                    f"{record['bytes_per_second'] / 1e9:.0f}",
                    number(record["fraction_of_ideal"], ".0%"),
                    number(record["speedup"], ".2f"),
                )
            )
    lines += [*aligned(_COLUMNS, rows, keys=6, words=2), *crossovers(records)]
    rest = Counter(
        f"{record['status']}: {record['implementation']}: {record['reason']}"
        for record in records
        if record["status"] != MEASURED
    )
    return "\n".join([*lines, *(f"{words} ({count} cases)" for words, count in rest.items())])


def never_slower_from(speedups: Mapping[int, float]) -> int | None:
    """The least length from which on no speed-up is below 1; None if there is no such length.

    Args:
        speedups: by length; lower ends of their intervals, so that what is too uncertain counts as slower.
    """
    slower = max((length for length, speedup in speedups.items() if speedup < 1), default=0)
    return min((length for length in speedups if length > slower), default=None)


def crossovers(records: Sequence[Record]) -> list[str]:
    """For every stage, model and pattern: from which measured length on our kernels never lose to dense ones."""
    lows: dict[tuple[str, str, str], dict[int, float]] = {}
    for record in records:
        if record["implementation"] == "longgen" and record["speedup"] is not None:
            low = record["speedup"] * record["seconds"] / record["seconds_high"]
            lows.setdefault((record["stage"], record["shape"], record["pattern"]), {})[record["length"]] = low
    lines = []
    for group, speedups in lows.items():
        length = never_slower_from(speedups)
        words = "at no measured length" if length is None else f"from {length:,} tokens on"
        lines.append(f"{', '.join(group)}: not slower than the fastest dense kernel {words}")
    return lines


def _order(record: Record) -> tuple[Any, ...]:
    return (
        record["stage"],
        record["shape"],
        record["batch"],
        record["length"],
        record["pattern"],
        record["implementation"],
    )


def _heads(record: Record) -> str:
    return f"{record['num_heads']}/{record['num_kv_heads']} heads of {record['head_dim']}"
