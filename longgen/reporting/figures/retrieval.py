"""Figure `retrieval`: exact match, or share of the answer, by context length for each retrieval task."""

from __future__ import annotations

import pandas as pd

from longgen.reporting import words
from longgen.reporting.drawing import Drawing
from longgen.reporting.measures import SEVERAL_PARTS, pool_shares, retrieval_by_length, task_order
from longgen.reporting.run import Run
from longgen.reporting.task_panels import draw_tasks

_ENDS = ("", "_low", "_high")


def draw(run: Run) -> Drawing:
    """A panel or a row of panels per task, one line per variant, pooled over depths, with 95 % intervals."""
    data, by = retrieval_by_length(run), ["variant", "task", "length"]
    shares = pool_shares(run.frame("retrieval"), by)
    if len(shares):
        data = data.merge(shares.drop(columns="n"), how="left", on=by)
    score = "" if len(shares) else ": exact match"
    figure = draw_tasks(
        f"Retrieval by context length{score}",
        [words.run_note(run), "needle pooled over depths"],
        pd.concat([_scores(data[data["task"] == task], task) for task in task_order(data)]),
        run.plan,
        run.variants,
    )
    return Drawing(figure, data)


def _scores(rows: pd.DataFrame, task: str) -> pd.DataFrame:
    score = "share" if task in SEVERAL_PARTS else "exact"
    return rows.assign(**{f"value{end}": rows[f"{score}{end}"] for end in _ENDS})
