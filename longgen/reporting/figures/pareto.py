"""Figure `pareto`: retrieval against KV cache and time, of all that was trained and of reductions at inference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from longgen.errors import ArtifactError
from longgen.reporting import families, style, words
from longgen.reporting.ablation import INTERVAL
from longgen.reporting.comparison import comparison_table
from longgen.reporting.disturbed import shown_note, with_sign
from longgen.reporting.drawing import Drawing
from longgen.reporting.labels import LabelledPoint
from longgen.reporting.measures import pareto_front
from longgen.reporting.reduction_panel import draw_reductions, prepare_reductions
from longgen.reporting.run import Run
from longgen.reporting.trade_off import (
    APART,
    FRONT,
    TradeOffPoint,
    axis_break,
    cost_axis,
    draw_points,
    name_points,
    reduced_entry,
    reduction_style,
    score_axis,
    stretch_note,
)

QUALITY = "needle_exact"
COSTS = ("kv_fraction", "prefill_time")
COLUMNS = [
    *("variant", "what", "family", "method", "budget_of", "length", "needle_n"),
    *(QUALITY, f"{QUALITY}_low", f"{QUALITY}_high", "kv_fraction"),
    *("prefill_time", "prefill_time_low", "prefill_time_high", *(f"{cost}_front" for cost in COSTS)),
    "prefill_speedup_disturbed",
]


def pareto_data(run: Run) -> pd.DataFrame:
    """What is drawn: the columns `COLUMNS` of all rows with a needle score and a cost.

    ``prefill_time`` is that of full attention divided by the measured speed-up; ``<cost>_front`` says which rows no
    other beats in both that cost and the score.

    Raises:
        ArtifactError: plan.json is missing, or nothing has both.
    """
    for kind in ("retrieval", "memory"):
        if not run.has(kind):
            raise run.missing(kind)
    table = comparison_table(run)
    for end, inverse in (("", ""), ("_low", "_high"), ("_high", "_low")):
        table[f"prefill_time{end}"] = 1 / table[f"prefill_speedup{inverse}"].astype(float)
    table = table[table[QUALITY].notna() & table[list(COSTS)].notna().any(axis=1)].reset_index(drop=True)
    if table.empty:
        where = f"at {run.plan.trained_length} tokens"
        raise ArtifactError(f"{run.missing('retrieval')} (nothing has both a needle score and a cost {where})")
    for cost in COSTS:
        with_cost = table[table[cost].notna()]
        best = with_cost.index[pareto_front(with_cost[cost].to_numpy(float), with_cost[QUALITY].to_numpy(float))]
        table[f"{cost}_front"] = table.index.isin(best)
    return table


def draw(run: Run) -> Drawing:
    """Needle exact match at the trained length against the KV cache (left) and prefill time (right).

    KV reductions have a panel of their own below, by budget: within the first they would hide what was trained.
    """
    data = pareto_data(run)
    is_reduction = data["family"] == families.REDUCTION
    break_at = axis_break(data.loc[~is_reduction, QUALITY])
    disturbed = shown_note(
        data[data["prefill_time"].notna()],
        "prefill_speedup_disturbed",
        lambda row: f"prefill of {words.variant_label(row['variant'])}",
    )
    note = ["needle pooled over depths", "bars: 95 % intervals", APART, *stretch_note(break_at), disturbed]
    figure = style.new_figure(
        f"Retrieval at {words.format_length(run.plan.trained_length)} tokens against what it costs",
        words.SEPARATOR.join(filter(None, [words.run_note(run, "retrieval", "speed"), *note])),
        height=7.4 if is_reduction.any() else 4.4,
    )
    if is_reduction.any():
        panels = figure.subplot_mosaic([["memory", "time"], ["reduced", "reduced"]], height_ratios=[4, 3])
        memory, time = panels["memory"], panels["time"]
        time.sharey(memory)
        time.tick_params(labelleft=False)
    else:
        memory, time = figure.subplots(1, 2, sharey=True)
    labels = (
        "share of full attention's KV cache (\u2190 smaller is better)",
        "prefill time, of full attention's (\u2190 faster is better)",
    )
    looks = style.variant_styles(run.variants)
    for axes, cost, label in zip((memory, time), COSTS, labels, strict=True):
        _draw_axes(axes, data, cost, label)
    score_axis(memory, break_at)
    if break_at is not None:
        score_axis(time, break_at)
    memory.set_ylabel("needle exact match (higher is better)")
    front = Line2D([], [], color=FRONT, linewidth=2.2, label="Pareto front")
    style.legend_below(figure, [front, *([reduced_entry()] if is_reduction.any() else [])])
    reductions = data.rename(columns={f"{QUALITY}{end}": f"score{end}" for end in INTERVAL} | {"variant": "name"})
    reductions["name"] = reductions["name"].where(~is_reduction, reductions["method"])
    if is_reduction.any():
        prepare_reductions(panels["reduced"], reductions)
        panels["reduced"].set_ylabel("needle exact match")
    figure.draw_without_rendering()  # what covers what depends on where the axes are
    for axes, cost in zip((memory, time), COSTS, strict=True):
        name_points(axes, draw_points(axes, _panel_points(data, cost, looks)), [_front(data, cost)])
    if is_reduction.any():
        draw_reductions(panels["reduced"], reductions, looks)
    return Drawing(figure, data[COLUMNS])


def _front(data: pd.DataFrame, cost: str) -> np.ndarray:
    """The corners of the line of the front, [points, 2]: up to the next cost nothing better is to be had."""
    front = data[data[cost].notna() & data[f"{cost}_front"]].sort_values(cost)
    costs, scores = front[cost].to_numpy(float), front[QUALITY].to_numpy(float)
    return np.column_stack([np.repeat(costs, 2)[1:], np.repeat(scores, 2)[:-1]]) if len(front) else np.empty((0, 2))


def _draw_axes(axes: Axes, data: pd.DataFrame, cost: str, label: str) -> None:
    """Everything but the points."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(words.format_percent)
    axes.grid()
    rows = data[data[cost].notna()]
    if rows.empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=style.MUTED)
        return
    ends = rows[[column for column in (cost, f"{cost}_low", f"{cost}_high") if column in rows]].to_numpy(float)
    cost_axis(axes, ends.ravel(), 0.14)
    axes.plot(*_front(data, cost).T, color=FRONT, linewidth=2.2, zorder=1)


def _panel_points(data: pd.DataFrame, cost: str, looks: dict[str, style.VariantStyle]) -> list[TradeOffPoint]:
    """What was trained, and of the reductions those on the front."""
    is_reduction = data["family"] == families.REDUCTION
    points = []
    for row in data[data[cost].notna() & (~is_reduction | data[f"{cost}_front"])].to_dict("records"):
        is_reduced = row["family"] == families.REDUCTION
        look = reduction_style(row["method"]) if is_reduced else looks[row["variant"]]
        if cost == "prefill_time":
            look = replace(look, label=with_sign(look.label, row["prefill_speedup_disturbed"]))
        ends = (row[f"{cost}_low"], row[f"{cost}_high"]) if f"{cost}_low" in row else (row[cost], row[cost])
        quality = row[f"{QUALITY}_low"], row[f"{QUALITY}_high"]
        point = LabelledPoint(row[cost], row[QUALITY], ends, quality, look)
        points.append(TradeOffPoint(point, is_reduced, row["family"] == families.REFERENCE))
    return points
