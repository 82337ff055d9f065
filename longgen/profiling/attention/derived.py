"""What follows from the times of a session: rates, the ideal that sparsity allows, and how near to it a time comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from longgen.profiling.attention.implementations import DENSE
from longgen.profiling.attention.limits import COPY
from longgen.profiling.attention.session import MEASURED

DERIVED = ("flops_per_second", "bytes_per_second", "ideal_seconds", "ideal_from", "fraction_of_ideal", "speedup")


def derive(records: Sequence[dict[str, Any]], limits: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records with the columns `DERIVED`.

    For a whole sequence the ideal is the time of the fastest dense kernel of the same stage and heads in this session,
    scaled by the floating-point operations that the pattern leaves; at a length where none was measured, that of the
    nearest length. To decode it is the time to read the cache at the copy bandwidth of this session. The speed-up is
    over the fastest dense kernel at the same length; to decode, over that on the cache of a full layer.

    Args:
        records: of kind ``kernel-speed``, with status, seconds, flops and bytes.
        limits: of kind ``device-limits``.
    """
    bandwidth = next((limit["value"] for limit in limits if limit["quantity"] == COPY), None)
    return [record | _columns(record, records, bandwidth) for record in records]


def _columns(record: dict[str, Any], records: Sequence[dict[str, Any]], bandwidth: float | None) -> dict[str, Any]:
    columns: dict[str, Any] = dict.fromkeys(DERIVED)
    if record["status"] != MEASURED:
        return columns
    seconds = record["seconds"]
    columns["flops_per_second"] = record["flops"] / seconds
    columns["bytes_per_second"] = record["bytes"] / seconds
    dense = _nearest_dense(record, records)
    if record["stage"] == "decode":
        if bandwidth is not None:
            columns["ideal_seconds"] = record["bytes"] / bandwidth
            columns["ideal_from"] = COPY
    elif dense is not None:
        columns["ideal_seconds"] = dense["seconds"] * record["flops"] / dense["flops"]
        columns["ideal_from"] = f"{dense['implementation']} @ {dense['length']}"
    if columns["ideal_seconds"] is not None:
        columns["fraction_of_ideal"] = columns["ideal_seconds"] / seconds
    if dense is not None and dense["length"] == record["length"]:
        columns["speedup"] = dense["seconds"] / seconds
    return columns


def _nearest_dense(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The fastest dense kernel at the length nearest to the record's, of the same stage, heads and batch."""
    same = [
        other
        for other in records
        if other["status"] == MEASURED
        and other["implementation"] in DENSE
        and other["pattern"] == "full"
        and all(other[column] == record[column] for column in ("stage", "shape", "batch"))
    ]
    return min(same, key=lambda other: (abs(other["length"] - record["length"]), other["seconds"]), default=None)
