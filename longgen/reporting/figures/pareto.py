"""Figure `pareto`: retrieval against KV cache and time, of all that was trained and of reductions at inference."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from longgen.errors import ArtifactError
from longgen.reporting import families, style, words
from longgen.reporting.comparison import comparison_table
from longgen.reporting.drawing import Drawing
from longgen.reporting.labels import LabelledPoint, label_points
from longgen.reporting.measures import pareto_front
from longgen.reporting.run import Run

QUALITY = "needle_exact"
COSTS = ("kv_fraction", "prefill_time")
COLUMNS = [
    *("variant", "what", "family", "method", "budget_of", "length", "needle_n"),
    *(QUALITY, f"{QUALITY}_low", f"{QUALITY}_high", "kv_fraction"),
    *("prefill_time", "prefill_time_low", "prefill_time_high", *(f"{cost}_front" for cost in COSTS)),
]
# Colour and marker of the families' best-known members, and what the legend says.
_LOOKS: dict[str, tuple[str, str, str]] = {
    families.FULL: ("#222222", "o", "full attention"),
    families.REFERENCE: ("#0072B2", "s", "reference hybrid"),
    families.RATIO: ("#56B4E9", "<", "other ratio"),
    families.PLACEMENT: ("#009E73", "P", "other placement"),
    families.PATTERN: ("#D55E00", "D", "other pattern"),
    families.ALL_SPARSE: ("#CC79A7", "X", "all layers sparse"),
    families.REDUCTION: ("#8C564B", "v", "full, reduced at inference"),
}

_FRONT = "#cfcfcf"


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
        measured = table[table[cost].notna()]
        best = measured.index[pareto_front(measured[cost].to_numpy(float), measured[QUALITY].to_numpy(float))]
        table[f"{cost}_front"] = table.index.isin(best)
    return table[COLUMNS]


def draw(run: Run) -> Drawing:
    """Needle exact match at the trained length against the KV cache (left) and prefill time (right)."""
    data = pareto_data(run)
    reduced = (data["family"] == families.REDUCTION).any()
    figure = style.new_figure(
        f"Retrieval at {words.format_length(run.plan.trained_length)} tokens against what it costs",
        f"{words.run_note(run, 'retrieval', 'speed')} · needle pooled over depths · bars: 95 % intervals",
        height=4.2 if reduced else 3.7,
    )
    memory, time = figure.subplots(1, 2, sharey=True)
    _draw_panel(memory, data, "kv_fraction", "share of full attention's KV cache (← smaller is better)")
    memory.set_ylabel("needle exact match (higher is better)")
    _draw_panel(time, data, "prefill_time", "prefill time, of full attention's (← faster is better)")
    entries = [
        Line2D([], [], color=color, marker=marker, label=label, linestyle="none", markeredgecolor="white", mew=0.4)
        for family, (color, marker, label) in _LOOKS.items()
        if family in set(data["family"])
    ]
    style.legend_below(figure, [*entries, Line2D([], [], color=_FRONT, linewidth=2.2, label="Pareto front")])
    # axis limits are final, and the legend has taken its room: now the labels
    for axes, cost in zip((memory, time), COSTS, strict=True):
        _write_labels(axes, data[data[cost].notna()], cost)
    return Drawing(figure, data)


def _draw_panel(axes: Axes, data: pd.DataFrame, cost: str, label: str) -> None:
    axes.set_ylim(-0.04, 1.04)
    axes.set_xlabel(label)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid()
    rows = data[data[cost].notna()]
    if rows.empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=style.MUTED)
        return
    front = rows[rows[f"{cost}_front"]].sort_values(cost)
    axes.step(front[cost], front[QUALITY], where="post", color=_FRONT, linewidth=2.2, zorder=1)
    for _, method in rows[rows["method"].notna()].groupby("method", sort=False):
        color = _LOOKS[families.REDUCTION][0]  # one method at several budgets
        axes.plot(*method.sort_values(cost)[[cost, QUALITY]].to_numpy(float).T, color=color, lw=0.6, alpha=0.5)
    for row in rows.to_dict("records"):
        color, marker, _ = _LOOKS[row["family"]]
        axes.errorbar(
            row[cost],
            row[QUALITY],
            yerr=_error(row, QUALITY),
            xerr=_error(row, cost),
            color=color,
            marker=marker,
            markersize=6,
            ecolor=(color, 0.45),
            elinewidth=0.8,
            capsize=1.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            linestyle="none",
        )
    axes.margins(x=0.14)


def _write_labels(axes: Axes, rows: pd.DataFrame, cost: str) -> None:
    """Names beside the points; of a method at several budgets, beside the largest."""
    if rows.empty:
        return
    largest = rows.groupby("method")[cost].transform("max") == rows[cost]
    named = rows["method"].isna() | largest
    points = [_point(row, cost) for row in rows[named].to_dict("records")]
    label_points(axes, points, [_point(row, cost) for row in rows[~named].to_dict("records")])


def _point(row: dict, cost: str) -> LabelledPoint:
    color, marker, _ = _LOOKS[row["family"]]
    name = words.variant_label(row["variant"]) if pd.isna(row["method"]) else row["method"]
    ends = (row[f"{cost}_low"], row[f"{cost}_high"]) if f"{cost}_low" in row else (row[cost], row[cost])
    quality = row[f"{QUALITY}_low"], row[f"{QUALITY}_high"]
    return LabelledPoint(row[cost], row[QUALITY], ends, quality, style.VariantStyle(color, marker, name))


def _error(row: dict, column: str) -> Sequence[Sequence[float]] | None:
    """Distances to the ends of the interval, as `Axes.errorbar` wants them; None for a column without one."""
    if f"{column}_low" not in row:
        return None
    below, above = row[column] - row[f"{column}_low"], row[f"{column}_high"] - row[column]
    return [[max(below, 0.0)], [max(above, 0.0)]]
