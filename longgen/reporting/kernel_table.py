"""Table `kernel_table`: every timed kernel, whether the targets are reached, and how right the kernels compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from longgen.records.schema import FAILED, MEASURED
from longgen.reporting.kernel_measures import (
    OUR_KERNELS,
    STAGES,
    crossover,
    is_measured,
    is_try,
    kernel_note,
    speed_rows,
)
from longgen.reporting.kernel_targets import target_rows
from longgen.reporting.run import Run
from longgen.reporting.words import TIMES, TO, format_length

COLUMNS = [
    *("stage", "shape", "length", "batch", "pattern", "implementation", "status", "reason", "dtype"),
    *("n", "seconds", "seconds_low", "seconds_high", "flops_per_second", "bytes_per_second"),
    *("ideal_seconds", "ideal_from", "fraction_of_ideal", "speedup", "speedup_low", "speedup_high"),
]
_TRY = "**The code was only tried out, on a CPU at tiny sizes: none of these times is a benchmark.**"
_RULE = (
    "Verdicts are given by rule alone. Let the low end be that of the 95 % interval of our kernel's time; what it is "
    "compared with counts as its median. *Reached*: the low end is at least the target, at every length asked for. "
    "*Not reached*: at one it is lower, or too uncertain to tell. *Not measured*: else, a length is missing."
)
_MEANINGS = (
    "Not slower: by the same low end. Below, *ideal* is the share of what is possible: for a whole sequence the time "
    "of the fastest dense kernel, scaled by the operations that the pattern leaves; to decode, reading the cache at "
    f"the copy bandwidth. *{TIMES} dense*: speed-up over the fastest dense kernel; to decode, over PyTorch's attention "
    "on a full layer's cache. In parentheses: 95 % interval."
)


def kernel_table(run: Run) -> pd.DataFrame:
    """One row per implementation and workload, measured or not: by stage, model, sequences, length and pattern.

    Returns:
        The columns `COLUMNS`. Empty if only the numerics were checked.

    Raises:
        ArtifactError: neither times nor numerics were measured.
    """
    if not run.has("kernel-speed"):
        if run.has("kernel-checks"):
            return pd.DataFrame(columns=COLUMNS)
        raise run.missing("kernel-speed")
    rows = speed_rows(run)
    orders = {"stage": list(STAGES), "shape": list(dict.fromkeys(rows["shape"]))}
    keys = ["stage", "shape", "batch", "length", "pattern", "implementation"]
    rows = rows.sort_values(keys, key=lambda c: c.map(orders[str(c.name)].index) if c.name in orders else c)
    return rows[COLUMNS].astype({"n": "Int64"}).reset_index(drop=True)


def kernel_markdown(run: Run, table: pd.DataFrame) -> str:
    """The table as Markdown: targets and numerics first, then the times."""
    has_times = len(table) > 0
    lines = ["# Attention kernels", "", kernel_note(run, "kernel-speed" if has_times else "kernel-checks"), ""]
    if run.has("device-limits"):
        limits = run.frame("device-limits").to_dict("records")
        lines += ["; ".join(f"{limit['quantity']} {limit['value']:.3g} {limit['unit']}" for limit in limits) + ".", ""]
    lines += [_TRY, ""] if is_try(run) else []
    lines += ["## Targets", "", *(_as_table(_target_cells(run)) if has_times else ["Not measured."]), "", _RULE, ""]
    lines += ["## Numerics", "", *_numerics(run), ""]
    if has_times:
        lines += ["## From which length on sparse is not slower than dense", "", *_as_table(_crossover_cells(table))]
        lines += ["", _MEANINGS, "", *_times(table)]
        lines += ["## What was not measured", "", *(_reasons(table, "implementation") or ["Everything was."])]
    return "\n".join(lines).rstrip() + "\n"


def _as_table(cells: list[dict[str, str]]) -> list[str]:
    return [pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True) if cells else "Not measured."]


def _target_cells(run: Run) -> list[dict[str, str]]:
    cells = []
    for row in target_rows(run).to_dict("records"):
        unit, value_text = str(row["unit"]), "not measured"
        if not pd.isna(row["measured"]):
            low = f"{_value(row['measured'], unit)} (low end {_value(row['low'], unit)})"
            value_text = f"{low} at {format_length(row['length'])}"
        cell = {"target": row["claim"], "stage": row["stage"], "model": row["shape"], "pattern": row["pattern"]}
        cell |= {"at least": _value(row["at_least"], unit), "measured": value_text, "verdict": row["verdict"]}
        cells.append(cell)
    return cells


def _value(value: float, unit: str) -> str:
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.2f}{TIMES}"


def _numerics(run: Run) -> list[str]:
    """How many comparisons passed, the largest error of every dtype, and whatever is wrong by name."""
    if not run.has("kernel-checks"):
        return [f"Not measured: {run.missing('kernel-checks')}."]
    checks = run.frame("kernel-checks")
    is_right = checks["passed"].fillna(False).astype(bool)
    is_wrong = (checks["status"] == FAILED) | (is_measured(checks) & ~is_right)
    lines = [
        f"{is_right.sum()} comparisons passed, {is_wrong.sum()} failed, {(~is_right & ~is_wrong).sum()} were not "
        "measured.",
        "",
        *_as_table([_dtype_cells(str(dtype), rows) for dtype, rows in checks.groupby("dtype", sort=False)]),
        "",
    ]
    for row in checks[is_wrong].to_dict("records"):
        what = f"{row['what']}, {row['tensor']}, {row['dtype']}, {row['length']:,} tokens, {row['pattern']}"
        error = f"error {row['error']:.1e}, allowed {row['tolerance']:.0e}"
        lines.append(f"- **wrong**: {what}: {error if row['status'] == MEASURED else row['reason']}")
    return [*lines, *_reasons(checks[checks["status"] != FAILED], "dtype")]


def _dtype_cells(dtype: str, checks: pd.DataFrame) -> dict[str, str]:
    errors = checks.loc[is_measured(checks), "error"]
    largest = "not measured" if errors.empty else f"{errors.max():.1e}"
    return {"dtype": dtype, "largest relative error": largest, "allowed": f"{checks['tolerance'].max():.0e}"}


def _crossover_cells(table: pd.DataFrame) -> list[dict[str, str]]:
    own_rows = table[is_measured(table) & (table["implementation"] == table["stage"].map(OUR_KERNELS))]
    own_rows = own_rows[(own_rows["pattern"] != "full") & own_rows["speedup"].notna()]
    cells = []
    for (stage, shape, pattern), rows in own_rows.groupby(["stage", "shape", "pattern"], sort=False):
        length = crossover(rows)
        words = "at no measured length" if length is None else f"from {format_length(length)} on"
        cell = {"stage": stage, "model": shape, "pattern": pattern}
        cells.append({name: str(value) for name, value in cell.items()} | {"not slower": words})
    return cells


def _times(table: pd.DataFrame) -> list[str]:
    """A table per stage and model of what was measured."""
    lines = []
    for (stage, shape), rows in table[is_measured(table)].groupby(["stage", "shape"], sort=False):
        lines += [f"## {stage}, {shape}", "", *_as_table([_time_cells(row) for row in rows.to_dict("records")]), ""]
    return lines


def _time_cells(row: Mapping[Any, Any]) -> dict[str, str]:
    low, high = 1e3 * row["seconds_low"], 1e3 * row["seconds_high"]
    return {
        "length": format_length(row["length"]),
        "sequences": str(row["batch"]),
        "pattern": row["pattern"],
        "implementation": row["implementation"],
        "ms": f"{1e3 * row['seconds']:.3f} ({low:.3f}{TO}{high:.3f})",
        "TFLOP/s": _rate(row["flops_per_second"] / 1e12),
        "GB/s": _rate(row["bytes_per_second"] / 1e9),
        "ideal": "" if pd.isna(row["fraction_of_ideal"]) else f"{100 * row['fraction_of_ideal']:.1f} %",
        f"{TIMES} dense": "" if pd.isna(row["speedup"]) else f"{row['speedup']:.2f}",
    }


def _rate(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _reasons(rows: pd.DataFrame, what: str) -> list[str]:
    """Why rows were not measured, by column ``what``, and how many they are."""
    counts: dict[str, int] = {}
    for row in rows[~is_measured(rows)].to_dict("records"):
        words = f"- {row['status']}: {row[what]}: {row['reason']}"
        counts[words] = counts.get(words, 0) + 1
    return [f"{words} ({count})" for words, count in counts.items()]


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The table as it is written: as CSV, and as Markdown. Raises ArtifactError: the run lacks its results."""
    table = kernel_table(run)
    return table, kernel_markdown(run, table)
