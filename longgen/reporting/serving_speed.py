"""The table `serving_speed`: loads of requests through a serving engine, the hybrid against full attention."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from longgen.reporting.disturbed import rule_lines, with_disturbed, with_sign
from longgen.reporting.kernel_measures import is_measured
from longgen.reporting.run import Run
from longgen.reporting.words import TIMES, device_note, number, with_interval

_SAME = ["shape", "length", "requests", "new_tokens", "kv_memory", "chunk"]
_MEANINGS = (
    "The same weights in a KV cache of the same size, with full attention in all layers and as the hybrid. All "
    "requests, of random tokens, are there from the beginning. *At once*: requests that had KV cache in the same "
    "step, at most. *Fit*: how many of the greatest length fit, as the engine counts them when it starts, a chunk of "
    "prefill included. *KV of a request*: its blocks in all layers at its last token. *Load*: seconds from the first "
    "request to the last answer, of a single run. *First token*: seconds a request waited for it, median over "
    "requests with its bootstrap interval."
)


def serving_rows(run: Run) -> pd.DataFrame:
    """The records of kind ``serving-speed`` that were measured.

    Added are ``sequences_ratio``, ``running_ratio`` and ``kv_fraction``: over full attention with the same load.

    Raises:
        ArtifactError: the run has none.
    """
    rows = run.frame("serving-speed")
    rows = rows[is_measured(rows)].reset_index(drop=True)
    columns = ["sequences", "running", "kv_bytes"]
    full = rows.loc[rows["full_layers"] == rows["num_layers"], [*_SAME, *columns]]
    of_full = rows.merge(full, how="left", on=_SAME, validate="m:1", suffixes=("", "_full"))
    return rows.assign(
        sequences_ratio=rows["sequences"] / of_full["sequences_full"],
        running_ratio=rows["running"] / of_full["running_full"],
        kv_fraction=rows["kv_bytes"] / of_full["kv_bytes_full"],
    )


def serving_speed_markdown(run: Run) -> str:
    """The records of kind ``serving-speed`` to read.

    Raises:
        ArtifactError: the run has none.
    """
    rows = with_disturbed(serving_rows(run))
    lines = ["# Sequences at once and speed of a serving engine", "", device_note(run, "serving-speed"), ""]
    for (shape, engine, dtype), part in rows.groupby(["shape", "engine", "dtype"], sort=False):
        cells = [_cells(row) for row in part.to_dict("records")]
        table = pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True)
        lines += [f"## {shape}, {engine}, {dtype}", "", table, ""]
    lines += [_MEANINGS] if len(rows) else ["Nothing was measured."]
    lines += rule_lines(bool(rows[["disturbed", "speedup_disturbed"]].any(axis=None)))
    all_rows = run.frame("serving-speed")
    for row in all_rows[~is_measured(all_rows)].to_dict("records"):
        lines += ["", f"{row['status']}: {_load(row)}: {row['reason']}"]
    return "\n".join(lines) + "\n"


def _load(row: Mapping[Hashable, Any]) -> str:
    return f"{row['requests']:.0f} {TIMES} {row['length']:,.0f} + {row['new_tokens']:.0f} tokens"


def _cells(row: Mapping[Hashable, Any]) -> dict[str, str]:
    return {
        "load": _load(row),
        "KV memory, MiB": number(row["kv_memory"], ",.0f", factor=2**-20),
        "full layers": f"{row['full_layers']:.0f}/{row['num_layers']:.0f}",
        "pattern": row["pattern"],
        "at once": number(row["running"], ".0f"),
        "fit": f"{number(row['sequences'], '.2f')} ({number(row['sequences_ratio'], '.2f', TIMES)})",
        "KV of a request, MiB": number(row["kv_bytes"], ".1f", factor=2**-20),
        "KV of full": number(row["kv_fraction"], ".1f", " %", 100),
        "load, s": with_sign(number(row["seconds"], ",.0f"), row["disturbed"]),
        "speed-up": with_sign(number(row["speedup"], ".2f", TIMES), row["speedup_disturbed"]),
        "tokens/s": number(row["tokens_per_second"], ".2f"),
        "first token, s": with_interval(row, "first_token", ",.0f"),
        "preempted": number(row["preemptions"], ".0f"),
    }


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The table as it is written: as CSV, and as Markdown. Raises ArtifactError: the run lacks its results."""
    text = serving_speed_markdown(run)
    return with_disturbed(run.frame("serving-speed")), text
