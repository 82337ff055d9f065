"""What answers each kind of claim: from a run's results to a measured value with its interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from longgen.errors import ArtifactError
from longgen.reporting.disturbed import speedup_disturbed
from longgen.reporting.kv_reductions import pooled_reductions
from longgen.reporting.measures import retrieval_by_length
from longgen.reporting.paper import PaperClaim
from longgen.reporting.run import Run
from longgen.statistics import difference_interval

MINIMUM_EXACT = 0.5  # of the needles, for a length to count as reached, and to be kept; paper_claims.yaml says so too


@dataclass(frozen=True)
class Measurement:
    """A measured value and its 95 % interval; without samples (bytes) the interval is None.

    Attributes:
        value: in the claim's unit.
        low: end of the interval.
        high: end of the interval.
        n: samples or rounds.
        disturbed: whether the machine was busy with something else; None where that was not recorded, or is no matter.
    """

    value: float
    low: float | None
    high: float | None
    n: int | None = None
    disturbed: bool | None = None

    @property
    def lower(self) -> float:
        """What the verdict goes by."""
        return self.value if self.low is None else self.low

    @property
    def upper(self) -> float:
        """What a claim is denied by."""
        return self.value if self.high is None else self.high


def speedup_of(row: pd.Series) -> Measurement | None:
    """The speed-up in a row with its interval and ``n``; None unless all of them are there: no verdict without them."""
    value, low, high, n = (float(row[column]) for column in ("speedup", "speedup_low", "speedup_high", "n"))
    if not all(map(math.isfinite, (value, low, high, n))):
        return None
    return Measurement(value, low, high, int(n), speedup_disturbed(row))


def kv_reduction_of(row: pd.Series) -> Measurement | None:
    """Percent of full attention's KV cache that a row's ``kv_fraction`` saves, exact; None if that is missing."""
    saving = 100 * (1 - float(row["kv_fraction"]))
    return Measurement(saving, None, None) if math.isfinite(saving) else None


def _speedup(run: Run, claim: PaperClaim, variant: str, length: int) -> Measurement | None:
    row = _row(run, "speed", variant, length, stage=claim.stage)
    return None if row is None else speedup_of(row)


def _kv_reduction(run: Run, claim: PaperClaim, variant: str, length: int) -> Measurement | None:
    row = _row(run, "memory", variant, length)
    return None if row is None else kv_reduction_of(row)


def _retrieval_kept(run: Run, claim: PaperClaim, variant: str, length: int) -> Measurement | None:
    """None as well where full attention itself finds too few: of nothing, nothing can be kept."""
    full = _needle_at(run, "full", length)
    return None if full is None or full["exact"] < MINIMUM_EXACT else _needle_difference(run, variant, "full", length)


def _retrieval_lost(run: Run, claim: PaperClaim, variant: str, length: int) -> Measurement | None:
    return _needle_difference(run, "full", variant, length)


def _reductions_beaten(run: Run, claim: PaperClaim, variant: str, length: int) -> Measurement | None:
    """Points by which a hybrid is ahead of the best KV reduction that keeps as much."""
    if not run.has("kv-reduction") or (hybrid := _needle_at(run, variant, length)) is None:
        return None
    reductions = pooled_reductions(run)
    reductions = reductions[
        (reductions["length"] == length) & (reductions["task"] == "needle") & (reductions["budget_of"] == variant)
    ]
    if reductions.empty:
        return None
    return _points_ahead(hybrid, reductions.sort_values("exact", ascending=False, kind="stable").iloc[0])


def _extension(run: Run, claim: PaperClaim, variant: str, length: int) -> Measurement | None:
    needle = _needle(run, variant)
    base = run.plan.base_length
    needle = needle[(needle["length"] >= base) & (needle["length"] <= length)]
    if needle.empty:
        return None

    def reached(column: str) -> float:
        factor = 0.0
        for row in needle.to_dict("records"):
            if row[column] < MINIMUM_EXACT:
                break
            factor = row["length"] / base
        return factor

    return Measurement(reached("exact"), reached("exact_low"), reached("exact_high"), int(needle["n"].min()))


def _row(run: Run, kind: str, variant: str, length: int, **equal: object) -> pd.Series | None:
    if not run.has(kind):
        return None
    rows = run.frame(kind)
    rows = rows[(rows["variant"] == variant) & (rows["length"] == length)]
    for column, value in equal.items():
        rows = rows[rows[column] == value]
    if len(rows) > 1:
        where = ", ".join([variant, *map(str, equal.values()), f"{length} tokens"])
        raise ArtifactError(f"{run.folder} holds {len(rows)} results of kind {kind} for {where}: allowed is one")
    return None if rows.empty else rows.iloc[0]


def _needle(run: Run, variant: str) -> pd.DataFrame:
    if not run.has("retrieval"):
        return pd.DataFrame(columns=["length", "n", "exact", "exact_low", "exact_high"])
    scores = retrieval_by_length(run)
    return scores[(scores["variant"] == variant) & (scores["task"] == "needle")]


def _needle_difference(run: Run, first: str, second: str, length: int) -> Measurement | None:
    """Percentage points of needle exact match by which ``first`` is ahead of ``second``."""
    pair = [_needle_at(run, name, length) for name in (first, second)]
    return None if pair[0] is None or pair[1] is None else _points_ahead(pair[0], pair[1])


def _needle_at(run: Run, variant: str, length: int) -> pd.Series | None:
    rows = _needle(run, variant)
    rows = rows[rows["length"] == length]
    return None if rows.empty else rows.iloc[0]


def _points_ahead(first: pd.Series, second: pd.Series) -> Measurement:
    """Percentage points of exact match by which ``first`` is ahead, each with its interval."""
    intervals = [(float(row["exact"]), float(row["exact_low"]), float(row["exact_high"])) for row in (first, second)]
    value, low, high = difference_interval(*intervals)
    return Measurement(100 * value, 100 * low, 100 * high, int(min(first["n"], second["n"])))


@dataclass(frozen=True)
class Measure:
    """How a kind of claim is answered.

    Attributes:
        kind: of the results that answer it.
        measure: the value for a variant at a length, or None if it was not measured there.
    """

    kind: str
    measure: Callable[[Run, PaperClaim, str, int], Measurement | None]


MEASURES: dict[str, Measure] = {
    "speedup": Measure("speed", _speedup),
    "kv_reduction": Measure("memory", _kv_reduction),
    "retrieval_kept": Measure("retrieval", _retrieval_kept),
    "retrieval_lost": Measure("retrieval", _retrieval_lost),
    "reductions_beaten": Measure("kv-reduction", _reductions_beaten),
    "extension": Measure("retrieval", _extension),
}
