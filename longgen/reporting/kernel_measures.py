"""Measurements of kernels as the figure, the table and the targets need them: with intervals and ideals."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from longgen.names import COPY
from longgen.records.schema import MEASURED
from longgen.records.speed import never_slower_from
from longgen.reporting.run import Run
from longgen.reporting.words import SEPARATOR

STAGES = ("forward", "forward+backward", "decode")
OUR_KERNELS = {"forward": "longgen", "forward+backward": "longgen", "decode": "longgen decode"}
FLEX = ("flex-128", "flex-64")


def speed_rows(run: Run) -> pd.DataFrame:
    """The records of kind ``kernel-speed``, measured or not.

    Columns are added: ``ideal_speedup``, what sparsity allows at best over the fastest dense kernel; and the ends
    ``_low`` and ``_high`` of ``speedup``, ``bytes_per_second`` and ``fraction_of_ideal``. They follow from the interval
    of the row's own time; what it is compared with counts as its median.
    """
    rows = run.frame("kernel-speed")
    ratios = {"ideal_speedup": rows["speedup"] / rows["fraction_of_ideal"]}
    for column in ("speedup", "bytes_per_second", "fraction_of_ideal"):
        ratios[f"{column}_low"] = rows[column] * rows["seconds"] / rows["seconds_high"]
        ratios[f"{column}_high"] = rows[column] * rows["seconds"] / rows["seconds_low"]
    return rows.assign(**ratios)


def is_measured(rows: pd.DataFrame) -> pd.Series:
    """Which rows were measured."""
    return rows["status"] == MEASURED


def is_try(run: Run) -> bool:
    """Whether the code was only tried out, at tiny sizes on a CPU: such times are no benchmark."""
    return any(run.settings(kind).get("tiny") is True for kind in ("kernel-speed", "kernel-checks", "device-limits"))


def copy_bandwidth(run: Run) -> float:
    """Bytes per second that the device copied. Raises ArtifactError if that was not measured."""
    limits = run.frame("device-limits")
    rates = limits.loc[limits["quantity"] == COPY, "value"]
    if rates.empty:
        raise run.missing("device-limits")
    return float(rates.iloc[0])


def crossover(rows: pd.DataFrame) -> int | None:
    """The least length from which on no row is slower than the fastest dense kernel; None if there is no such length.

    Args:
        rows: of one stage, model, batch and pattern, measured; compared by the lower end of the speed-up.
    """
    rows = rows.dropna(subset="speedup_low")
    return never_slower_from(dict(zip(rows["length"].tolist(), rows["speedup_low"].tolist(), strict=True)))


def kernel_note(run: Run, kind: str) -> str:
    """The small print: the run, the device and the day; and whether it is a benchmark at all."""
    parts = [f"run {run.name}", run.device(kind), run.days(kind), str(run.settings(kind).get("dtype", ""))]
    if is_try(run):
        parts.append("CPU, tiny sizes: not a benchmark")
    return SEPARATOR.join(part for part in parts if part)


def shape_label(row: Mapping[Hashable, Any]) -> str:
    """A model's attention heads in words."""
    return f"{row['shape']}: {row['num_heads']} heads, {row['num_kv_heads']} KV heads"
