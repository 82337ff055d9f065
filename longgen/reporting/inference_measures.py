"""The records of kind ``inference-speed`` as the figure, the table and the claims need them."""

from __future__ import annotations

import pandas as pd

from longgen.records.speed import LONGEST_CONTEXT
from longgen.reporting.kernel_measures import is_measured
from longgen.reporting.run import Run

_SAME = ["what", "shape", "length", "batch", "num_layers", "composed"]


def inference_rows(run: Run) -> pd.DataFrame:
    """All records, measured or not.

    Added is ``kv_fraction``: ``kv_bytes`` over that of full attention at the same length, batch and depth, measured in
    the same way; and for a longest context ``tokens_fraction``, tokens over those of full attention at the same batch.

    Raises:
        ArtifactError: the run has none.
    """
    rows = run.frame("inference-speed")
    full = rows[is_measured(rows) & (rows["pattern"] == "full") & (rows["full_layers"] == rows["num_layers"])]
    full_caches = full.loc[full["what"] != LONGEST_CONTEXT, [*_SAME, "kv_bytes"]]
    longest = full.loc[full["what"] == LONGEST_CONTEXT, ["what", "shape", "batch", "length"]]
    of_full = rows.merge(full_caches, how="left", on=_SAME, validate="m:1", suffixes=("", "_full"))["kv_bytes_full"]
    same = ["what", "shape", "batch"]
    tokens = rows.merge(longest, how="left", on=same, validate="m:1", suffixes=("", "_full"))["length_full"]
    return rows.assign(kv_fraction=rows["kv_bytes"] / of_full, tokens_fraction=rows["length"] / tokens)
