"""Which question a row of a comparison answers: ratio, placement, pattern, or a baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line lists the comparisons without it
    import pandas as pd

    from longgen.reporting.run import Plan

FULL, ALL_SPARSE, REFERENCE, REDUCTION = "full", "all-sparse", "reference", "reduction"
RATIO, PLACEMENT, PATTERN, BASELINE = "ratio", "placement", "pattern", "baseline"
_BASELINES = (FULL, ALL_SPARSE, REDUCTION)
# What is set side by side, each with full attention and the reference: name -> families.
COMPARISONS: dict[str, tuple[str, ...]] = {
    RATIO: (FULL, REFERENCE, RATIO, ALL_SPARSE),
    PLACEMENT: (FULL, REFERENCE, PLACEMENT),
    PATTERN: (FULL, REFERENCE, PATTERN),
    BASELINE: (REFERENCE, *_BASELINES),
}
# By what the rows of a comparison are sorted; others keep their order. More full layers come first.
_RANK: dict[str, Callable[[pd.DataFrame], pd.Series]] = {RATIO: lambda rows: -rows["full_layers"]}


def families(plan: Plan) -> dict[str, str]:
    """The family of every variant: what it changes of the reference, which is the first hybrid of the plan.

    A variant that changes several things is of the first of these: pattern, placement, ratio. A layout without full
    or without sparse layers is no hybrid.
    """
    hybrids = [each for each in plan.variants.values() if each.layout.num_full and each.layout.num_sparse]
    family_of = {}
    for name, variant in plan.variants.items():
        if not variant.layout.num_sparse:
            family_of[name] = FULL
        elif not variant.layout.num_full:
            family_of[name] = ALL_SPARSE
        elif variant.pattern != hybrids[0].pattern:
            family_of[name] = PATTERN
        elif variant.placement != hybrids[0].placement:
            family_of[name] = PLACEMENT
        else:
            family_of[name] = RATIO if variant.layout != hybrids[0].layout else REFERENCE
    return family_of


def side_by_side(table: pd.DataFrame, comparison: str) -> pd.DataFrame:
    """The rows of ``table`` (columns ``family``, ``full_layers``) that a comparison in `COMPARISONS` is about."""
    rows = table[table["family"].isin(COMPARISONS[comparison])]
    if comparison in _RANK:
        rows = rows.iloc[_RANK[comparison](rows).argsort(kind="stable")]
    return rows.reset_index(drop=True)
