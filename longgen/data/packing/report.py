"""What a packing read and used: by domain and length, before and after (results kind ``packing``)."""

from __future__ import annotations

from typing import Any

import numpy as np

from longgen.data.packing.methods import PackPlan
from longgen.data.packing.settings import PackSettings
from longgen.data.packing.table import DocumentTable
from longgen.data.packing.tally import Tally

COUNTS = (
    *("documents_read", "tokens_read", "documents_duplicate", "tokens_duplicate"),
    *("documents_used", "tokens_used", "tokens_wasted", "bad_records"),
)


def length_edges(settings: PackSettings) -> list[int]:
    """Lower ends of the length buckets of the report: 0, and the threshold times powers of two (1K..128K for 4096)."""
    return [0, *(edge for power in range(-2, 6) if (edge := int(settings.upsampling.threshold * 2.0**power)) > 0)]


def packing_records(
    table: DocumentTable, plan: PackPlan, tallies: dict[str, Tally], settings: PackSettings, seconds: float
) -> list[dict[str, Any]]:
    """Records of the results file; docs/results-format.md explains the columns.

    One per domain and length bucket; one per source with bad records, without a length; and the sum, without a
    ``domain``, which also has the time and how many processes tokenised. A document that is used n times counts n
    times, and by its whole length.
    """
    edges = length_edges(settings)
    cell = table.domains * len(edges) + np.searchsorted(edges, table.lengths, side="right") - 1
    cells = len(table.names) * len(edges)

    def count(documents: np.ndarray | slice, weights: np.ndarray | None = None) -> list[int]:
        return np.bincount(cell[documents], weights, minlength=cells).astype(np.int64).tolist()

    pieces = np.concatenate([stream.documents for stream in plan.streams])
    tokens_used = count(pieces, np.concatenate([stream.stops - stream.starts for stream in plan.streams]))
    tokens_drawn = count(plan.documents, table.lengths[plan.documents])
    everything, duplicate = slice(None), ~table.unique
    columns = {
        "documents_read": count(everything),
        "tokens_read": count(everything, table.lengths),
        "documents_duplicate": count(duplicate),
        "tokens_duplicate": count(duplicate, table.lengths[duplicate]),
        "documents_used": count(plan.documents),
        "tokens_used": tokens_used,
        "tokens_wasted": [whole - part for whole, part in zip(tokens_drawn, tokens_used, strict=True)],
        "bad_records": [0] * cells,
    }
    no_times = {"seconds": None, "tokens_per_second": None, "workers": None}
    highs = [*edges[1:], None]
    records: list[dict[str, Any]] = []
    for number, name in enumerate(table.names):
        for place in range(len(edges)):
            counts = {key: values[number * len(edges) + place] for key, values in columns.items()}
            bucket = {"domain": name, "length_low": edges[place], "length_high": highs[place]}
            if counts["documents_read"]:
                records.append(bucket | counts | no_times)
    for name, tally in tallies.items():
        if tally.bad:
            counts = dict.fromkeys(COUNTS, 0) | {"bad_records": tally.bad}
            records.append({"domain": name, "length_low": None, "length_high": None} | counts | no_times)
    total = {key: sum(record[key] for record in records) for key in COUNTS}
    per_second = total["tokens_read"] / max(seconds, 1e-9)
    rate = {"seconds": seconds, "tokens_per_second": per_second, "workers": settings.workers}
    return [*records, {"domain": None, "length_low": None, "length_high": None} | total | rate]
