"""The table `inference_speed`: prefill and decoding of whole models, measured or composed; longest contexts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from longgen.records.speed import KV_CACHE, LONGEST_CONTEXT, MODEL_DECODE, MODEL_PREFILL, SLICE_DECODE, SLICE_PREFILL
from longgen.reporting.disturbed import rule_lines, with_disturbed, with_sign
from longgen.reporting.inference_measures import inference_rows
from longgen.reporting.kernel_measures import is_measured
from longgen.reporting.run import Run
from longgen.reporting.words import TIMES, device_note, number, with_interval

_WHAT = {
    SLICE_PREFILL: "prefill of a slice",
    SLICE_DECODE: "decoding with a slice",
    MODEL_PREFILL: "prefill",
    MODEL_DECODE: "decoding",
}
_MEANINGS = (
    "Random weights and tokens at the model's true shape; a batch is of sequences of the same length, one if none is "
    "named. *Prefill*: the prompts in chunks, and one token predicted for each. *Decoding*: one more token of each, "
    "the mean of several steps in a row, as a CUDA graph over a cache of fixed shapes unless a note says otherwise. "
    "*Measured*: it ran. *Composed*: from slices, a few layers each, follow the seconds of a layer of each kind and of "
    "the rest, and from these the whole model; *fit* is by how much their sum misses a slice's measured time. Medians "
    "over rounds, in each of which everything ran once; speed-ups over full attention by its fastest kernel on this "
    "device, within rounds, with 95 % bootstrap intervals. *Ideal* (predicted): floating-point operations of full "
    "attention over those of the hybrid; to decode, bytes read. *KV*: the cache by its tensors' storage, and over that "
    "of full attention."
)
_CACHE_NOTE = (
    "Bytes of the storages of keys and values, summed over all layers of the whole model: one after another was given "
    "the prompt, counted and freed."
)
_LONGEST = (
    "The longest context at which the last chunk of a prefill and a decoded token after it ran in the memory of the "
    "device; of what came before only the cache was made up."
)


def inference_speed_markdown(run: Run) -> str:
    """The records of kind ``inference-speed`` to read, measured and composed times told apart.

    Raises:
        ArtifactError: the run has none.
    """
    rows = with_disturbed(inference_rows(run))
    lines = ["# Prefill, decoding and memory at the model's true shape", "", device_note(run, "inference-speed"), ""]
    measured_rows = rows[is_measured(rows)]
    times, caches, longest = (
        measured_rows[~measured_rows["what"].isin((KV_CACHE, LONGEST_CONTEXT))],
        *(measured_rows[measured_rows["what"] == what] for what in (KV_CACHE, LONGEST_CONTEXT)),
    )
    for _, part in times.groupby(["shape", "length", "batch"], sort=False):
        records = part.to_dict("records")
        lines += [f"## {records[0]['shape']}, {_tokens(records[0])}", "", *_kernels(part)]
        lines += ["", _table([_cells(row) for row in records]), ""]
    if len(caches):
        lines += ["## KV cache, counted layer by layer", ""]
        lines += [_table([_cache_cells(row) for row in caches.to_dict("records")]), "", _CACHE_NOTE, ""]
    if len(longest):
        lines += ["## Longest context in memory", "", _table([_longest(row) for row in longest.to_dict("records")])]
        lines += ["", _LONGEST, ""]
    lines += [_MEANINGS] if len(times) else ["No times were measured."]
    lines += rule_lines(bool(rows[["disturbed", "speedup_disturbed"]].any(axis=None)))
    for row in rows[~is_measured(rows)].to_dict("records"):
        stack = "" if pd.isna(row["full_layers"]) else f", {_layers(row)} full, {row['pattern']}"
        tokens = "" if pd.isna(row["length"]) else f", {_tokens(row)}"
        lines += ["", f"{row['status']}: {row['what']}, {row['shape']}{tokens}{stack}: {row['reason']}"]
    return "\n".join(lines) + "\n"


def _tokens(row: Mapping[Hashable, Any]) -> str:
    return f"{row['length']:,.0f} tokens" + (f", batch {row['batch']:.0f}" if row["batch"] > 1 else "")


def _kernels(part: pd.DataFrame) -> list[str]:
    """Who computed what, a line each."""
    lines = []
    for what, rows in part[~part["composed"].astype(bool)].groupby("what", sort=False):
        row = rows.iloc[0]
        chunk = "" if pd.isna(row["chunk"]) else f", chunks of {row['chunk']:,.0f} tokens"
        note = f"; {row['note']}" if row["note"] else ""
        kernels = f"full layers by {row['full_kernel']}, sparse ones by {row['sparse_kernel']}"
        lines.append(f"- {_WHAT[str(what)]}: {kernels}{chunk}{note}.")
    return lines


def _cells(row: Mapping[Hashable, Any]) -> dict[str, str]:
    return {
        "what": f"{_WHAT[row['what']]}, {'composed' if row['composed'] else 'measured'}",
        "full layers": _layers(row),
        "pattern": row["pattern"],
        "time, ms": with_sign(with_interval(row, "seconds", ",.2f", factor=1e3), row["disturbed"]),
        "speed-up": with_sign(with_interval(row, "speedup", ".2f", TIMES), row["speedup_disturbed"]),
        "ideal (predicted)": number(row["ideal_speedup"], ".2f", TIMES),
        "share of ideal": number(row["fraction_of_ideal"], ".0f", " %", 100),
        "fit": number(row["fit_error"], "+.1f", " %", 100),
        "KV, GiB": number(row["kv_bytes"], ".2f", factor=2**-30),
        "KV of full": number(row["kv_fraction"], ".1f", " %", 100),
        "memory, GiB": number(row["peak_bytes"], ".1f", factor=2**-30),
    }


def _cache_cells(row: Mapping[Hashable, Any]) -> dict[str, str]:
    return {
        "model": row["shape"],
        "full layers": _layers(row),
        "pattern": row["pattern"],
        "tokens": _tokens(row),
        "KV, bytes": number(row["kv_bytes"], ",.0f"),
        "KV, GiB": number(row["kv_bytes"], ".2f", factor=2**-30),
        "KV of full": number(row["kv_fraction"], ".1f", " %", 100),
    }


def _longest(row: Mapping[Hashable, Any]) -> dict[str, str]:
    return {
        "model": row["shape"],
        "full layers": _layers(row),
        "pattern": row["pattern"],
        "batch": number(row["batch"], ".0f"),
        "tokens": number(row["length"], ",.0f"),
        "of full attention": number(row["tokens_fraction"], ".2f", TIMES),
        "KV, GiB": number(row["kv_bytes"], ".2f", factor=2**-30),
        "memory, GiB": number(row["peak_bytes"], ".1f", factor=2**-30),
        "note": row["note"] or "",
    }


def _layers(row: Mapping[Hashable, Any]) -> str:
    return f"{row['full_layers']:.0f}/{row['num_layers']:.0f}"


def _table(cells: list[dict[str, str]]) -> str:
    return pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True)


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The table as it is written: as CSV, and as Markdown. Raises ArtifactError: the run lacks its results."""
    text = inference_speed_markdown(run)
    return with_disturbed(run.frame("inference-speed")), text
