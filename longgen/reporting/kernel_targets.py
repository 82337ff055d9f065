"""The kernels' targets: kernel_targets.yaml as checked values, and a verdict on each by rule."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from longgen.reporting.kernel_measures import FLEX, OUR_KERNELS, STAGES, is_measured, is_try, speed_rows
from longgen.reporting.run import Run
from longgen.strict import build, load_yaml, require

TARGETS_FILE = Path(__file__).with_name("kernel_targets.yaml")
VERDICTS = ("reached", "not reached", "not measured")
# Quotients less accurate than this are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Target:
    """What one stage with one pattern is to reach."""

    stage: str
    pattern: str
    at_least: float

    def __post_init__(self) -> None:
        require(self.stage in STAGES, "stage", self.stage, ", ".join(STAGES))
        require(self.at_least > 0, "at_least", self.at_least, "a number > 0")


@dataclass(frozen=True)
class TargetGroup:
    """Targets of one measure; kernel_targets.yaml explains the measures.

    Attributes:
        claim: in words.
        measure: what is to be reached.
        unit: in which readers see it.
        lengths: in tokens; the lowest value over them counts.
        targets: by stage and pattern.
    """

    claim: str
    measure: Literal["fraction_of_ideal", "over_flex", "speedup"]
    unit: Literal["%", "x"]
    lengths: list[int]
    targets: list[Target]

    def __post_init__(self) -> None:
        require(len(self.lengths) > 0, "lengths", self.lengths, "one length at least")


@dataclass(frozen=True)
class KernelTargets:
    """The whole file: ``shape`` is the model whose heads count."""

    shape: str
    groups: list[TargetGroup]


@functools.cache
def kernel_targets() -> KernelTargets:
    """The targets that come with longgen. Raises ConfigError if the file was damaged."""
    return build(KernelTargets, load_yaml(TARGETS_FILE), "")


def target_rows(run: Run) -> pd.DataFrame:
    """Every target with what was measured.

    Returns:
        ``claim, measure, unit, stage, shape, pattern, at_least``; ``measured``, ``low`` and ``length``: the value whose
        lower end is the lowest of all the target's lengths, that end and that length, missing if nothing was measured;
        and ``verdict``, one of `VERDICTS`.
    """
    targets = kernel_targets()
    rows = _comparable(run, targets.shape)
    table = []
    for group in targets.groups:
        for target in group.targets:
            own_rows = rows[(rows["stage"] == target.stage) & (rows["pattern"] == target.pattern)]
            low = f"{group.measure}_low"
            at = own_rows[own_rows["length"].isin(group.lengths)].dropna(subset=low).sort_values(low)
            worst = at.iloc[0] if len(at) else pd.Series(dtype=float)
            row: dict[str, Any] = {"claim": group.claim, "measure": group.measure, "unit": group.unit}
            row |= {"stage": target.stage, "shape": targets.shape, "pattern": target.pattern}
            row |= {"at_least": target.at_least}
            row |= {"measured": worst.get(group.measure), "low": worst.get(low), "length": worst.get("length")}
            lows = dict(zip(at["length"].tolist(), at[low].tolist(), strict=True))
            table.append(row | {"verdict": verdict(target, lows, group.lengths)})
    return pd.DataFrame(table).astype({"measured": float, "low": float, "length": "Int64"})


def verdict(target: Target, lows: dict[int, float], lengths: list[int]) -> str:
    """One of `VERDICTS`, by the rule in kernel_targets.yaml; ``lows`` holds the lower ends by length."""
    if any(low < target.at_least - _ROUNDING for low in lows.values()):
        return "not reached"
    return "reached" if set(lengths) <= set(lows) else "not measured"


def _comparable(run: Run, shape: str) -> pd.DataFrame:
    """The measured rows of our kernels, one sequence, with the columns ``over_flex`` and ``over_flex_low``."""
    rows = speed_rows(run)
    rows = rows[is_measured(rows) & (rows["shape"] == shape) & (rows["batch"] == 1)]
    keys = ["stage", "length", "pattern"]
    fastest = rows[rows["implementation"].isin(FLEX)].groupby(keys)["seconds"].min().rename("flex_seconds")
    own_rows = rows[rows["implementation"] == rows["stage"].map(OUR_KERNELS)].join(fastest, on=keys)
    own_rows["over_flex"] = own_rows["flex_seconds"] / own_rows["seconds"]
    own_rows["over_flex_low"] = own_rows["flex_seconds"] / own_rows["seconds_high"]
    return own_rows.iloc[:0] if is_try(run) else own_rows
