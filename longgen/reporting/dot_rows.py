"""Dots with intervals in rows: a row of panels per comparison, a column per quantity, a line per variant in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from longgen.reporting import families, style, words
from longgen.reporting.ablation import INTERVAL
from longgen.reporting.disturbed import with_sign
from longgen.reporting.run import Plan

# comparison -> its name beside the panels
ROWS = {families.RATIO: "ratio", families.PLACEMENT: "placement", families.PATTERN: "pattern"}
_IN_ALL = (families.FULL, families.REFERENCE)
HIGHER, LOWER = "(higher is better)", "(lower is better)"
_BELOW = 0.27  # of a line: where the seeds' own values are, so that they and the interval cover nothing of each other


@dataclass(frozen=True)
class DotColumn:
    """What a column of panels shows.

    Attributes:
        name: of the column in the data; that of its interval's ends follows.
        label: below the panels, with the direction that is better.
        factor: from the data to the axis.
        ticks: where they are; none leaves it to the values.
        around: a value to which others are compared: it is within the axis, and a tick.
        prediction: name of a column with predictions, which are drawn hollow where nothing was measured.
    """

    name: str
    label: str
    factor: float = 1.0
    ticks: tuple[float, ...] = ()
    around: float | None = None
    prediction: str = ""


# What the figures of one run and of several seeds both show of the cache.
KV_CACHE = DotColumn(
    "kv_fraction", f"KV cache (% of full)\n{LOWER}", 100, ticks=(0, 50, 100), prediction="kv_fraction_planned"
)


def comparisons(table: pd.DataFrame) -> pd.DataFrame:
    """A row per comparison and variant of it, in the order drawn: ``table`` with a column ``comparison``.

    The ratio is compared always, if only full attention with the reference; placement and pattern where a variant
    differs in them.

    Args:
        table: a row per variant, with columns ``family`` and ``full_layers``.
    """
    parts = []
    for comparison in ROWS:
        rows = families.side_by_side(table, comparison)
        if comparison == families.RATIO or not rows["family"].isin(_IN_ALL).all():
            parts.append(rows.assign(comparison=comparison))
    return pd.concat(parts, ignore_index=True)


def with_planned_cache(table: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """``table`` (columns ``variant``, ``length``, ``kv_fraction``) with the plan's share where none was measured.

    The column, ``kv_fraction_planned``, is there only if something is missing and the plan knows it.
    """
    missing = table["kv_fraction"].isna()
    predictions = plan.predictions.rename(columns={"kv_fraction": "kv_fraction_planned"})
    fractions = table[["variant", "length"]].merge(
        predictions[["variant", "length", "kv_fraction_planned"]], how="left", on=["variant", "length"]
    )
    predicted_fractions = fractions["kv_fraction_planned"].set_axis(table.index).where(missing)
    return table if predicted_fractions.isna().all() else table.assign(kv_fraction_planned=predicted_fractions)


def draw_dot_rows(
    title: str,
    note: str,
    data: pd.DataFrame,
    columns: Sequence[DotColumn],
    looks: dict[str, style.VariantStyle],
    seeds: pd.DataFrame | None = None,
) -> Figure:
    """The figure.

    Args:
        title: of the figure.
        note: the small print below it.
        data: rows of `comparisons`.
        columns: left to right.
        looks: of all variants.
        seeds: a row per variant and seed with the same quantities, drawn as small dots below the line's own.
    """
    groups = [(str(name), rows) for name, rows in data.groupby("comparison", sort=False)]
    heights = [len(rows) + 0.6 for _, rows in groups]
    figure = style.new_figure(title, note, height=1.15 + 0.25 * sum(heights))
    panels = figure.subplots(len(groups), len(columns), squeeze=False, sharex="col", height_ratios=heights)
    for line, (comparison, rows) in zip(panels, groups, strict=True):
        for axes, column in zip(line, columns, strict=True):
            _draw_panel(axes, rows, column, looks)
            if seeds is not None:
                _draw_seeds(axes, rows, column, looks, seeds)
        line[0].set_ylabel(ROWS[comparison], fontweight="bold")
        line[0].set_yticks(range(len(rows)), [_label(row) for row in rows.to_dict("records")])
    for axes, column in zip(panels[-1], columns, strict=True):
        axes.set_xlabel(column.label)
        if column.ticks:
            axes.set_xlim(column.ticks[0] - 0.07 * column.ticks[-1], 1.07 * column.ticks[-1])
            axes.set_xticks(column.ticks)
        elif column.around is not None and data[column.name].notna().any():
            axes.set_xticks(_ticks_around(axes, column.around))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    figure.align_ylabels(panels[:, 0])
    reference = data.loc[data["family"] == families.REFERENCE, "variant"].drop_duplicates()
    entries: list[Artist] = [
        Line2D([], [], color=looks[name].color, lw=0.8, ls=(0, (3, 2)), label=f"{looks[name].label}: the reference")
        for name in reference
    ]
    if any(column.prediction in data and data[column.prediction].notna().any() for column in columns):
        hollow_marker: dict[str, Any] = {"markerfacecolor": "white", "markersize": 5.5, "linestyle": "none"}
        entries.append(
            Line2D([], [], color=style.INK, marker="o", label="hollow: planned, not measured", **hollow_marker)
        )
    if seeds is not None:
        entries.append(Line2D([], [], color=style.INK, marker=".", ls="none", ms=3.5, label="a seed"))
    style.legend_below(figure, entries)
    return figure


def _ticks_around(axes: Axes, value: float) -> list[float]:
    """Few round ticks with ``value`` among them, to which the axis is widened if need be."""
    low, high = axes.get_xlim()
    margin = 0.06 * (high - low)
    low, high = min(low, value - margin), max(high, value + margin)
    axes.set_xlim(low, high)
    steps = (step * 10.0**decade for decade in range(-3, 4) for step in (1, 2, 2.5, 5))
    step = next(step for step in steps if (high - low) / step <= _MOST_TICKS)
    counts = range(math.ceil((low + margin / 2 - value) / step), int((high - margin / 2 - value) / step) + 1)
    return [value + step * count for count in counts]


_MOST_TICKS = 4  # that a narrow panel has room for


def _label(row: dict) -> str:
    """The variant, and what the comparison is about."""
    about = {
        families.RATIO: f"{row['full_layers']:.3g}/{row['num_layers']} full",
        families.PLACEMENT: row["placement"],
        families.PATTERN: row["pattern"],
    }[row["comparison"]]
    label = words.variant_label(row["variant"])
    return label if about == "none" or about in label else f"{label}: {about}"


def _draw_panel(axes: Axes, rows: pd.DataFrame, column: DotColumn, looks: dict[str, style.VariantStyle]) -> None:
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first variant at the top
    axes.set_yticks(range(len(rows)), [""] * len(rows))
    axes.tick_params(axis="y", length=0)
    axes.grid()
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10]))
    has_prediction = column.prediction in rows
    if rows[column.name].isna().all() and not has_prediction:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=style.MUTED)
        return
    for place, row in enumerate(rows.to_dict("records")):
        look, value = looks[row["variant"]], column.factor * row[column.name]
        if math.isnan(value):
            _draw_missing(axes, place, column.factor * row[column.prediction] if has_prediction else math.nan, look)
            continue
        if row["family"] == families.REFERENCE:
            axes.axvline(value, color=look.color, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
        axes.errorbar(
            value,
            place,
            xerr=_error(row, column),
            color=look.color,
            marker=look.marker,
            label=look.label,
            markersize=5.5,
            elinewidth=0.9,
            capsize=1.8,
            markeredgecolor="white",
            mew=0.4,
            linestyle="none",
        )
        if f"{column.name}_disturbed" in row:
            sign = with_sign(" ", row[f"{column.name}_disturbed"]).strip()
            axes.annotate(sign, (value, place), (3, 2), textcoords="offset points", fontsize=7, color=style.INK)


def _draw_missing(axes: Axes, place: int, prediction: float, look: style.VariantStyle) -> None:
    """What stands where nothing was measured: the prediction, hollow, or the words."""
    if math.isnan(prediction):
        words_at: dict[str, Any] = {"ha": "left", "va": "center", "fontsize": style.NOTE_SIZE, "color": style.MUTED}
        words_at["bbox"] = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # over the reference's line
        axes.text(0.02, place, "not measured", transform=axes.get_yaxis_transform(), **words_at)
        return
    axes.plot(prediction, place, marker=look.marker, color=look.color, markerfacecolor="white", ms=5, linestyle="none")


def _draw_seeds(
    axes: Axes, rows: pd.DataFrame, column: DotColumn, looks: dict[str, style.VariantStyle], seeds: pd.DataFrame
) -> None:
    for place, variant in enumerate(rows["variant"]):
        values = column.factor * seeds.loc[seeds["variant"] == variant, column.name].dropna().to_numpy(float)
        heights = np.full(len(values), place + _BELOW)
        axes.plot(values, heights, color=looks[variant].color, marker=".", ms=3.5, alpha=0.8, mew=0, linestyle="none")


def _error(row: dict, column: DotColumn) -> np.ndarray | None:
    """Distances to the ends of the interval, as `Axes.errorbar` wants them; None for a column without one."""
    if f"{column.name}_low" not in row:
        return None
    value, low, high = (column.factor * row[f"{column.name}{end}"] for end in INTERVAL)
    return np.array([[max(value - low, 0.0)], [max(high - value, 0.0)]])
