"""What figures, tables and claims have in common: pooled proportions, and the right rows at a length."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from longgen.reporting.run import Run
from longgen.reporting.views import PARTS
from longgen.statistics import wilson_interval

TASKS = ("needle", "multikey", "variable-tracking", "multivalue", "common-words")
# Those whose answers have several parts: shown is the share of them that was given, as RULER scores it.
SEVERAL_PARTS = tuple(PARTS)
STAGES = ("training", "prefill", "decode")
# the paper's tasks and stages as a reader knows them
TASK_TITLES = {
    "needle": "needle in a haystack",
    "multikey": "multi-key needle",
    "variable-tracking": "variable tracking",
    "multivalue": "multi-value needle",
    "common-words": "common words",
}


def pool(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Pool exact-match rows that agree in ``by`` (over depths, say), with the interval of the pooled counts.

    Args:
        rows: records of kind ``retrieval``.
        by: columns that tell the groups apart; their order of appearance is kept.

    Returns:
        Columns ``by``, then ``n, exact, exact_low, exact_high``: the Wilson interval is recomputed from the counts,
        since intervals cannot be averaged.
    """
    counts = rows.assign(correct=(rows["exact"] * rows["n"]).round().astype(int), n=rows["n"].astype(int))
    totals = counts.groupby(by, sort=False)[["correct", "n"]].sum().reset_index()
    intervals = [wilson_interval(int(k), int(n)) for k, n in zip(totals["correct"], totals["n"], strict=True)]
    totals["exact"] = totals["correct"] / totals["n"]
    totals["exact_low"] = [low for low, _ in intervals]
    totals["exact_high"] = [high for _, high in intervals]
    return totals[[*by, "n", "exact", "exact_low", "exact_high"]]


def pool_shares(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The share of answers' parts that was given, of tasks whose answers have several, pooled like `pool` does.

    Args:
        rows: records of kind ``retrieval`` or ``kv-reduction``; those of other tasks are left out.
        by: columns that tell the groups apart, ``task`` among them.

    Returns:
        Columns ``by``, then ``n, share, share_low, share_high``: cells are weighted by their samples, and the arms of
        their intervals added as standard errors of independent means are (Zou and Donner 2008).
    """
    totals = []
    for key, cells in rows[rows["task"].isin(SEVERAL_PARTS)].groupby(by, sort=False):
        weights = cells["n"] / cells["n"].sum()
        share = float((weights * cells["share"]).sum())
        below, above = cells["share"] - cells["share_low"], cells["share_high"] - cells["share"]
        ends = share - math.hypot(*(weights * below)), share + math.hypot(*(weights * above))
        values = (int(cells["n"].sum()), share, max(0.0, ends[0]), min(1.0, ends[1]))
        totals.append([*key, *values])
    return pd.DataFrame(totals, columns=[*by, "n", "share", "share_low", "share_high"])


def retrieval_by_length(run: Run) -> pd.DataFrame:
    """Exact match per variant, task and length, pooled over depths; sorted by length within a variant and task."""
    scores = pool(run.frame("retrieval"), ["variant", "task", "length"])
    variants = {name: index for index, name in enumerate(run.variants)}
    tasks = {name: index for index, name in enumerate(task_order(scores))}
    with_ranks = scores.assign(rank=scores["variant"].map(variants), task_rank=scores["task"].map(tasks))
    return (
        with_ranks.sort_values(["rank", "task_rank", "length"])
        .drop(columns=["rank", "task_rank"])
        .reset_index(drop=True)
    )


def own_perplexity(run: Run) -> pd.DataFrame:
    """Perplexity by position, but for that of stand-in text: rows of that kind, none where there are none."""
    if not run.has("perplexity"):
        return pd.DataFrame(columns=["position_end"])
    rows = run.frame("perplexity")
    return rows[~rows["stand_in"].fillna(True)]


def task_order(rows: pd.DataFrame) -> list[str]:
    """The tasks that occur in ``rows``: the known ones first, in their usual order."""
    tasks = list(dict.fromkeys(rows["task"]))
    return [task for task in TASKS if task in tasks] + [task for task in tasks if task not in TASKS]


def ideal_speedup(run: Run, variant: str, stage: str, length: int) -> float:
    """The plan's ideal speed-up over full attention; NaN where the plan has no such length."""
    rows = run.plan.predictions
    predictions = rows[(rows["variant"] == variant) & (rows["length"] == length)]
    return float(predictions[f"ideal_{stage}_speedup"].iloc[0]) if len(predictions) else math.nan


def with_ideal(run: Run, speed: pd.DataFrame) -> pd.DataFrame:
    """``speed`` rows (kind ``speed``) with a column ``ideal_speedup`` from the plan."""
    keys = zip(speed["variant"], speed["stage"], speed["length"], strict=True)
    return speed.assign(ideal_speedup=[ideal_speedup(run, *key) for key in keys])


def pareto_front(cost: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Indices of the points that no other beats in both (lower cost, higher quality), by rising cost."""
    order = np.lexsort((-quality, cost))
    best = np.maximum.accumulate(np.concatenate([[-np.inf], quality[order]]))[:-1]
    return order[quality[order] > best]
