"""Scores of tasks by context length, a line per variant: of one run, and as means over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from longgen.reporting import style, words
from longgen.reporting.lines import (
    beside,
    draw_bands,
    draw_lines,
    legend_of_variants,
    score_label,
    spread_apart,
    task_title,
)
from longgen.reporting.run import Plan
from longgen.reporting.side_by_side import shared_panels
from longgen.reporting.trade_off import axis_break, score_axis

MOST = 3  # panels in a row
EVEN = "lengths are evenly spaced"  # for the small print
_ROW_HEIGHT = 1.75  # inches
_LINE = {"linewidth": 1.1, "markersize": 4.2}
Draw = Callable[[Axes, Sequence[str]], None]


def draw_tasks(
    title: str, note: Sequence[str], data: pd.DataFrame, plan: Plan, variants: Sequence[str], last: Draw | None = None
) -> Figure:
    """The figure: a panel per task, or a row of panels where variants are many (`shared_panels`).

    Lengths stand evenly, or those close together would leave no room for the variants' intervals beside each other.
    Every task has an axis of its own: what most reach is stretched, and what none reaches is left out.

    Args:
        title: of the figure.
        note: parts of the small print.
        data: columns ``task, variant, length, value, value_low, value_high``, scores from 0 to 1.
        plan: of the run: base and trained length, and what its variants differ in.
        variants: all of the run, so that they look as in its other figures.
        last: draws one more panel (of each column) for the variants that it is given.
    """
    tasks, names = list(dict.fromkeys(data["task"])), list(dict.fromkeys(data["variant"]))
    columns = shared_panels(plan, names)
    places = [*tasks, *([""] if last else [])]
    across = len(columns) if len(columns) > 1 else min(MOST, len(places))
    lines = math.ceil(len(places) * len(columns) / across)
    breaks = {task: axis_break(data.loc[data["task"] == task, "value"]) for task in tasks}
    about = [*note, "bars: 95 % intervals", EVEN, *beside(names)]
    about += ["shaded: the axis is stretched"] if any(breaks.values()) else []
    figure = style.new_figure(title, words.SEPARATOR.join(about), height=0.95 + _ROW_HEIGHT * lines)
    panels = figure.subplots(lines, across, squeeze=False, sharey="row" if len(columns) > 1 else False)
    looks = style.variant_styles(variants)
    width = (style.WIDTH - 0.9) / across
    for number, (axes, (task, column)) in enumerate(zip(panels.flat, product(places, columns), strict=False)):
        shown = columns[column]
        if task:
            rows = data[data["task"] == task]
            _score_axis(axes, rows, breaks[task])  # before the bands, which are not to be shaded
            _draw_task(axes, rows, shown, looks, plan, width, with_words=not column or number < across)
        else:
            assert last
            last(axes, shown)
        first = number % across == 0
        if column:
            axes.set_title(column if number < across else "", pad=style.ABOVE if task else None, fontweight="bold")
            axes.set_ylabel(f"{task_title(task)}\n{score_label(task)}" if task and first else axes.get_ylabel())
        elif task:
            axes.set_title(task_title(task), pad=style.ABOVE)
            axes.set_ylabel(score_label(task))
        if column and not first:
            axes.set_ylabel("")
        if number + across < len(places) * len(columns) and task and column and task != tasks[-1]:
            axes.set_xlabel("")
    for axes in panels.flat[len(places) * len(columns) :]:
        axes.remove()
    if "" not in columns:
        figure.align_ylabels(panels[:, 0])
    legend_of_variants(figure, [looks[name] for name in names])
    return figure


def _draw_task(
    axes: Axes,
    rows: pd.DataFrame,
    names: Sequence[str],
    looks: dict[str, style.VariantStyle],
    plan: Plan,
    width: float,
    with_words: bool,
) -> None:
    lengths = sorted(set(rows["length"]))
    places = 2.0 ** np.arange(len(lengths))  # evenly on a logarithmic axis

    def place(length: pd.Series | float) -> np.ndarray:
        octaves = np.log2(lengths)
        return 2.0 ** np.interp(np.log2(length), octaves, np.arange(len(lengths)))

    shifts = spread_apart(len(names), places, width)
    style.length_axis(axes, places, margin=1.1 * max(shifts) * 1.06)
    axes.set_xticks(places, [words.format_length(length) for length in lengths])
    for text, length in plan.marked_lengths.items():
        if lengths[0] <= length <= lengths[-1]:
            style.mark_length(axes, place(length).item(), text if with_words else "")
    draw_bands(axes, places, shifts)
    placed = rows.assign(place=place(rows["length"]))
    for name, shift in zip(names, shifts, strict=True):
        draw_lines(axes, placed[placed["variant"] == name], "place", "value", looks[name], shift, **_LINE)


def _score_axis(axes: Axes, rows: pd.DataFrame, break_at: float | None) -> None:
    score_axis(axes, break_at)
    greatest = float(np.nanmax(rows[["value", "value_high"]].to_numpy(float)))
    if break_at is None and greatest < 0.8:
        axes.set_ylim(-0.03, math.ceil(10 * greatest + 0.3) / 10)
    axes.grid(axis="y")
