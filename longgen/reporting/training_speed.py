"""The table `training_speed`: training steps of slices of a model, measured, and of whole models, composed of them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from longgen.records.schema import MEASURED
from longgen.records.speed import COMPOSED_LAYER, COMPOSED_MODEL, COMPOSED_REST, PARTS, SLICE
from longgen.reporting.disturbed import rule_lines, with_disturbed, with_sign
from longgen.reporting.run import Run
from longgen.reporting.words import TIMES, device_note, number, with_interval

_WHAT = {
    SLICE: "slice, measured",
    COMPOSED_REST: "rest, composed",
    COMPOSED_LAYER: "one layer, composed",
    COMPOSED_MODEL: "whole model, composed",
} | {part: f"{part}, measured" for part in PARTS}
_MEANINGS = (
    "*Measured*: a step (forward, backward, clipping, AdamW; one row, every layer recomputed) of a slice, which is a "
    "few layers of the model's true shape under its embeddings and LM head. *Composed*: from slices of other layers "
    "follow the seconds of a layer of each kind and of the rest, and from these the whole model; *fit* is by how much "
    "their sum misses a slice's measured time. Medians over rounds, in each of which every slice ran once; speed-ups "
    "over full attention by its fastest kernel on this device, within rounds, with 95 % bootstrap intervals. *Ideal* "
    "(predicted): floating-point operations of full attention over those of the hybrid. *MFU*: operations without "
    "recomputed ones, of the datasheet's peak. Traffic between GPUs is in none of it."
)


def training_speed_markdown(run: Run) -> str:
    """The records of kind ``training-speed`` to read, measured and composed times told apart.

    Raises:
        ArtifactError: the run has none.
    """
    rows = with_disturbed(run.frame("training-speed"))
    lines = ["# Training steps of slices of a model, and of the model composed of them", ""]
    lines += [device_note(run, "training-speed"), ""]
    measured_rows = rows[rows["status"] == MEASURED]
    for (shape, length), part in measured_rows.groupby(["shape", "length"], sort=False):
        kernels = part.iloc[0]
        lines += [f"## {shape}, {length:,} tokens", ""]
        lines += [f"Full layers by {kernels['full_kernel']}, sparse ones by {kernels['sparse_kernel']}."]
        notes = dict.fromkeys(part.loc[~part["what"].isin(PARTS), "note"].dropna())  # of parts it is in the table
        lines += [f"Note: {note}." for note in notes]
        cells = [_cells(row) for row in part.to_dict("records")]
        lines += ["", pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True), ""]
    lines += [_MEANINGS] if len(measured_rows) else ["Not measured."]
    lines += rule_lines(bool(rows[["disturbed", "speedup_disturbed"]].any(axis=None)))
    for row in rows[rows["status"] != MEASURED].to_dict("records"):
        lines += ["", f"{row['status']}: {row['shape']}, {row['length']:,} tokens: {row['reason']}"]
    return "\n".join(lines) + "\n"


def _cells(row: Mapping[Hashable, Any]) -> dict[str, str]:
    return {
        "what": _WHAT[row["what"]],
        "full layers": f"{row['full_layers']:.0f}/{row['num_layers']:.0f}",
        "pattern": row["pattern"],
        "step, s": with_sign(with_interval(row, "seconds", ".3f"), row["disturbed"]),
        "speed-up": with_sign(with_interval(row, "speedup", ".2f", TIMES), row["speedup_disturbed"]),
        "ideal (predicted)": number(row["ideal_speedup"], ".2f", TIMES),
        "share of ideal": number(100 * row["fraction_of_ideal"], ".0f", " %"),
        "MFU": number(100 * row["mfu"], ".1f", " %"),
        "fit": number(100 * row["fit_error"], "+.1f", " %"),
        "memory, GiB": number(row["peak_bytes"] / 2**30, ".1f"),
    }


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The table as it is written: as CSV, and as Markdown. Raises ArtifactError: the run lacks its results."""
    text = training_speed_markdown(run)
    return with_disturbed(run.frame("training-speed")), text
