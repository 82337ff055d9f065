"""Figure `ratio_ablation`: what retrieval costs in KV cache and in prefill time, one point per variant."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from longgen.errors import ArtifactError
from longgen.reporting import style, words
from longgen.reporting.ablation import ablation_table
from longgen.reporting.drawing import Drawing
from longgen.reporting.labels import LabelledPoint, label_points
from longgen.reporting.measures import pareto_front
from longgen.reporting.run import Run

COLUMNS = [
    *("variant", "length", "full_layers", "placement", "pattern", "needle_exact", "needle_exact_low"),
    *("needle_exact_high", "needle_n", "kv_fraction"),
    *("prefill_speedup", "prefill_speedup_low", "prefill_speedup_high"),
]


def draw(run: Run) -> Drawing:
    """Needle exact match at the trained length against KV fraction and prefill speed-up, with 95 % intervals."""
    for kind in ("retrieval", "memory", "speed"):
        if not run.has(kind):
            raise run.missing(kind)
    table = ablation_table(run)
    data = table[table["needle_exact"].notna() & (table["kv_fraction"].notna() | table["prefill_speedup"].notna())]
    if data.empty:
        where = f"at {run.plan.trained_length} tokens"
        raise ArtifactError(f"{run.missing('retrieval')} (no variant has both a needle score and a cost {where})")
    length = words.format_length(run.plan.trained_length)
    figure = style.new_figure(
        f"Retrieval at {length} tokens against KV cache and prefill speed",
        f"{words.run_note(run, 'speed')} · needle pooled over depths · bars: 95 % intervals",
        height=3.3,
    )
    memory, speed = figure.subplots(1, 2, sharey=True)
    _draw_panel(memory, data.dropna(subset="kv_fraction"), run, "kv_fraction", lower_is_better=True)
    memory.set_xlabel("KV cache, share of full attention (← smaller is better)")
    memory.set_ylabel("needle exact match (higher is better)")
    memory.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    _draw_panel(speed, data.dropna(subset="prefill_speedup"), run, "prefill_speedup", lower_is_better=False)
    speed.set_xlabel("prefill speed-up over full attention (faster is better →)")
    speed.xaxis.set_major_formatter(words.format_ratio)
    return Drawing(figure, data[COLUMNS].reset_index(drop=True))


def _draw_panel(axes: Axes, rows: pd.DataFrame, run: Run, x: str, lower_is_better: bool) -> None:
    looks = style.variant_styles(run.variants)
    axes.set_ylim(-0.04, 1.04)
    axes.grid()
    if rows.empty:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", color=style.MUTED)
        return
    values, quality = rows[x].to_numpy(), rows["needle_exact"].to_numpy()
    cost = values if lower_is_better else -values
    front = pareto_front(cost, quality)
    axes.step(
        values[front], quality[front], where="post" if lower_is_better else "pre", color="#bdbdbd", lw=1, zorder=1
    )
    for row in rows.to_dict("records"):
        look = looks[row["variant"]]
        axes.errorbar(
            row[x],
            row["needle_exact"],
            yerr=_error(row, "needle_exact"),
            xerr=_error(row, x),
            color=look.color,
            marker=look.marker,
            markersize=6.5,
            elinewidth=0.8,
            capsize=1.8,
            markeredgecolor="white",
            mew=0.5,
            label=look.label,
            linestyle="none",
        )
    axes.margins(x=0.12)
    label_points(axes, [_labelled(row, x, looks[row["variant"]]) for row in rows.to_dict("records")])


def _labelled(row: dict, x: str, look: style.VariantStyle) -> LabelledPoint:
    ends = (row[f"{x}_low"], row[f"{x}_high"]) if f"{x}_low" in row else (row[x], row[x])
    return LabelledPoint(row[x], row["needle_exact"], ends, (row["needle_exact_low"], row["needle_exact_high"]), look)


def _error(row: dict, column: str) -> np.ndarray | None:
    """Distances to the ends of the interval, as `Axes.errorbar` wants them; None for a column without one."""
    if f"{column}_low" not in row:
        return None
    return np.array([[max(row[column] - row[f"{column}_low"], 0)], [max(row[f"{column}_high"] - row[column], 0)]])
