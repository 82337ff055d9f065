"""What answers the claim about sequences in the same memory: loads through a serving engine."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NamedTuple

from longgen.layout import count_full_layers
from longgen.pattern import SparsePattern
from longgen.reporting.claim_measures import Measurement
from longgen.reporting.paper import PaperClaim, PaperClaims, scale_name
from longgen.reporting.run import Run
from longgen.reporting.serving_speed import serving_rows

SERVING = "serving-speed"


class ServedSequences(NamedTuple):
    """A row of the ledger. ``ideal`` is the KV cache of full attention over that of the hybrid, in tokens."""

    claim: PaperClaim
    variant: str
    scale: str
    ideal: float
    measurement: Measurement
    run: str
    device: str


def served_sequences(run: Run, paper: PaperClaims) -> Iterator[ServedSequences]:
    """How many more sequences a hybrid has in the memory of full attention, of every length that ``run`` served."""
    if not run.has(SERVING):
        return
    pattern = SparsePattern(**run.settings(SERVING)["pattern"])
    rows = serving_rows(run)
    for claim in paper.claims:
        if claim.measure != "sequences":
            continue
        for row in rows[rows["full_layers"] < rows["num_layers"]].to_dict("records"):
            scale = scale_name(row["shape"], row["length"])
            measurement = Measurement(row["sequences_ratio"], None, None)  # counted
            ideal, variant = _ideal(row, pattern), _variant(row, pattern, paper)
            yield ServedSequences(claim, variant, scale, ideal, measurement, run.name, run.device(SERVING))


def _ideal(row: Mapping[Hashable, Any], pattern: SparsePattern) -> float:
    tokens = row["length"] + row["new_tokens"]
    sparse, kv_tokens = (
        row["num_layers"] - row["full_layers"],
        pattern.kept_count(tokens - 1) + 1,
    )  # when the last one comes
    return float(row["num_layers"] * tokens / (row["full_layers"] * tokens + sparse * kv_tokens))


def _variant(row: Mapping[Hashable, Any], pattern: SparsePattern, paper: PaperClaims) -> str:
    """The paper's hybrid of this pattern and as many full layers, or what it is."""
    for name, variant in paper.variants.items():
        full_layers = count_full_layers(int(row["num_layers"]), variant.full_layers)
        if (variant.pattern, full_layers) == (pattern, row["full_layers"]):
            return name
    return f"{row['full_layers']}/{row['num_layers']} {row['pattern']}"
