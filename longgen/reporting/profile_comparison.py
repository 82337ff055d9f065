"""Two cached profiles side by side, row by row: what became faster or slower from one to the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from longgen.errors import ArtifactError
from longgen.records.schema import MEASURED
from longgen.reporting.disturbed import disturbed_note
from longgen.reporting.run import Run

# What b is where its value is the smaller and the larger one. A smaller speed-up need not be a slower hybrid: full
# attention may have become faster.
_WORDS = {"time": ("faster", "slower"), "speed-up": ("smaller", "larger"), "bytes": ("smaller", "larger")}
NO_DIFFERENCE, SAME = "no difference shown", "same"


@dataclass(frozen=True)
class ProfileQuantity:
    """A column that can be compared.

    Attributes:
        kind: of the results that hold it.
        column: its name; its interval is in ``<column>_low`` and ``<column>_high``, if there are such columns.
        keys: columns that together name a row.
        meaning: ``time`` (seconds), ``speed-up`` (over full attention in the same run) or ``bytes``.
        exact: whether the value is the same whenever it is measured: any difference counts.
    """

    kind: str
    column: str
    keys: tuple[str, ...]
    meaning: str
    exact: bool = False


_KERNEL = ("stage", "shape", "num_heads", "num_kv_heads", "head_dim", "dtype", "length", "batch", "pattern")
_ATTENTION = ("dtype", "num_heads", "num_kv_heads", "head_dim", "length", "pattern", "implementation", "stage")
_STEP = ("what", "shape", "length", "num_layers", "full_layers", "pattern", "dtype")
_INFERENCE = ("what", "composed", "shape", "length", "batch", "num_layers", "full_layers", "pattern", "dtype")
QUANTITIES = (
    ProfileQuantity("speed", "seconds", ("variant", "stage", "length"), "time"),
    ProfileQuantity("speed", "speedup", ("variant", "stage", "length"), "speed-up"),
    ProfileQuantity("memory", "kv_bytes", ("variant", "length"), "bytes", exact=True),
    ProfileQuantity("kernel-speed", "seconds", (*_KERNEL, "implementation"), "time"),
    ProfileQuantity("attention-speed", "seconds", _ATTENTION, "time"),
    ProfileQuantity("attention-speed", "speedup", _ATTENTION, "speed-up"),
    ProfileQuantity("training-speed", "seconds", _STEP, "time"),
    ProfileQuantity("training-speed", "speedup", _STEP, "speed-up"),
    ProfileQuantity("training-speed", "peak_bytes", _STEP, "bytes"),
    ProfileQuantity("inference-speed", "seconds", _INFERENCE, "time"),
    ProfileQuantity("inference-speed", "speedup", _INFERENCE, "speed-up"),
    ProfileQuantity("inference-speed", "kv_bytes", _INFERENCE, "bytes", exact=True),
    ProfileQuantity("inference-speed", "peak_bytes", _INFERENCE, "bytes"),
)
PROFILE_KINDS = tuple(dict.fromkeys(quantity.kind for quantity in QUANTITIES))


@dataclass(frozen=True)
class ProfileComparison:
    """One quantity of two runs.

    Attributes:
        quantity: which.
        rows: the quantity's keys; ``a`` and ``b`` with ``_low`` and ``_high`` each; ``ratio`` (b over a) with
            ``ratio_low`` and ``ratio_high``; ``verdict`` on b. Missing numbers are NaN.
        origins: where either run's numbers are from, in words: run, machine, commit, day.
        cautions: what else differs between the two measurements.
        only: number of rows that only the first and only the second run has.
        mean_ratio: geometric mean of ``ratio``: where all rows moved alike, it is the machine rather than the code.
    """

    quantity: ProfileQuantity
    rows: pd.DataFrame
    origins: tuple[str, str]
    cautions: tuple[str, ...]
    only: tuple[int, int]
    mean_ratio: float

    @property
    def changes(self) -> pd.DataFrame:
        """The rows with a difference: worse ones first, and of these the largest change."""
        rows = self.rows[~self.rows["verdict"].isin((NO_DIFFERENCE, SAME, ""))]
        worse = rows["verdict"].map(lambda verdict: is_worse(self.quantity, verdict)).astype(bool)
        size = np.log(rows["ratio"]).abs()
        return rows.assign(worse=worse, size=size).sort_values(["worse", "size"], ascending=False, kind="stable")[
            self.rows.columns
        ]


def is_worse(quantity: ProfileQuantity, verdict: str) -> bool:
    """Whether a verdict on b is bad news: slower, a smaller speed-up, or more bytes."""
    return verdict == _WORDS[quantity.meaning][0 if quantity.meaning == "speed-up" else 1]


def compare_profiles(first: Run, second: Run) -> list[ProfileComparison]:
    """Everything of `QUANTITIES` that both runs measured.

    The ratio's interval goes from the lower end of b over the upper end of a to the upper end of b over the lower end
    of a (our choice: wider than need be). So it leaves out 1 exactly where the two intervals do not overlap, and only
    then the verdict names a difference.

    Raises:
        ArtifactError: the two have no row of any profile in common, or one names a row twice.
    """
    comparisons = [
        _compare(quantity, first, second)
        for quantity in QUANTITIES
        if first.has(quantity.kind) and second.has(quantity.kind)
    ]
    if not any(len(comparison.rows) for comparison in comparisons):
        contents = "; ".join(f"{run.folder} holds {_kinds(run) or 'none'}" for run in (first, second))
        allowed = ", ".join(PROFILE_KINDS)
        raise ArtifactError(f"nothing was profiled in both runs: {contents}; compared are the same rows of {allowed}")
    return [comparison for comparison in comparisons if len(comparison.rows)]


def _kinds(run: Run) -> str:
    return ", ".join(kind for kind in PROFILE_KINDS if run.has(kind))


def _compare(quantity: ProfileQuantity, first: Run, second: Run) -> ProfileComparison:
    first_values, second_values = (_values(quantity, run, name) for run, name in ((first, "a"), (second, "b")))
    keys = list(quantity.keys)
    rows = first_values.merge(second_values, on=keys, how="inner")
    rows["ratio"] = rows["b"] / rows["a"]
    rows["ratio_low"] = rows["b_low"] / rows["a_high"]
    rows["ratio_high"] = rows["b_high"] / rows["a_low"]
    rows["verdict"] = [_verdict(quantity, row) for row in rows.to_dict("records")]
    origins = (_origin(first, quantity.kind), _origin(second, quantity.kind))
    only = (len(first_values) - len(rows), len(second_values) - len(rows))
    mean_ratio = float(np.exp(np.log(rows["ratio"]).mean()))
    return ProfileComparison(quantity, rows, origins, _cautions(first, second, quantity.kind), only, mean_ratio)


def _values(quantity: ProfileQuantity, run: Run, name: str) -> pd.DataFrame:
    """Keys and ``name``, ``name_low``, ``name_high`` of what was measured."""
    rows = run.frame(quantity.kind)
    if "status" in rows:
        rows = rows[rows["status"] == MEASURED]
    rows = rows[rows[quantity.column].notna()]
    if quantity.meaning == "speed-up":  # full attention over itself says nothing
        rows = rows[(rows["speedup_low"] != 1) | (rows["speedup_high"] != 1)]
    keys = list(quantity.keys)
    twice = rows[rows.duplicated(keys)]
    if len(twice):
        row = ", ".join(f"{key} {twice.iloc[0][key]}" for key in keys)
        raise ArtifactError(f"{run.folder} holds two results of kind {quantity.kind} for {row}: allowed is one")
    column_names = {f"{quantity.column}{end}": f"{name}{end}" for end in ("", "_low", "_high")}
    return rows.reindex(columns=[*keys, *column_names]).rename(columns=column_names)


def _verdict(quantity: ProfileQuantity, row: Mapping[Any, Any]) -> str:
    """What b is beside a; empty where nothing says how much the values vary."""
    less, more = _WORDS[quantity.meaning]
    if quantity.exact:
        return SAME if row["a"] == row["b"] else more if row["ratio"] > 1 else less
    if pd.isna(row["ratio_low"]):
        return ""
    if row["ratio_low"] > 1:
        return more
    return less if row["ratio_high"] < 1 else NO_DIFFERENCE


def _provenance(run: Run, kind: str) -> dict[str, Any]:
    return next(result.provenance for result in run.results if result.kind == kind and result.records)


def _origin(run: Run, kind: str) -> str:
    origin = _provenance(run, kind)
    dirty = "" if origin.get("git_dirty") is False else " with uncommitted changes"
    threads = (origin.get("device") or {}).get("threads")
    machine = run.device(kind) + (f", {threads} thread(s)" if threads else "")
    commit = str(origin.get("git_commit") or "unknown")[:12]
    return f"{run.name}: {machine}; commit {commit}{dirty}; {run.days(kind)}"


def _cautions(first: Run, second: Run, kind: str) -> tuple[str, ...]:
    """In words, what a difference may come from besides the commit."""
    first_origin, second_origin = (_provenance(run, kind) for run in (first, second))
    differences = {
        **_pairs(first_origin.get("device"), second_origin.get("device"), "machine's "),
        **_pairs(first_origin.get("packages"), second_origin.get("packages"), "version of "),
        **_pairs(first.settings(kind), second.settings(kind), "setting "),
    }
    texts = {name: ["absent" if value is None else value for value in pair] for name, pair in differences.items()}
    busy = (f"{run.name}: {note}" for run in (first, second) if (note := disturbed_note(run, kind)))
    return (*busy, *(f"{name}: {a} and {b}" for name, (a, b) in texts.items() if a != b))


def _pairs(first: Mapping[str, Any] | None, second: Mapping[str, Any] | None, prefix: str) -> dict[str, Any]:
    """Dotted name -> the two values."""
    flat = [dict(_flat(values or {}, prefix)) for values in (first, second)]
    return {name: (flat[0].get(name), flat[1].get(name)) for name in sorted({*flat[0], *flat[1]})}


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
