"""Lines with intervals and the legend of variants, shared by the figures that show something by length."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longgen.busy import SIGN
from longgen.reporting.disturbed import is_set
from longgen.reporting.measures import SEVERAL_PARTS, TASK_TITLES
from longgen.reporting.style import INK, VariantStyle, legend_below

BESIDE = "beside each other in a grey band: all at one length"  # for the small print
_BAND_EDGE = 1.025  # factor from the outermost marker to the edge of its band
_FULL_BAND = 0.82  # of the room between two lengths: more, and neighbouring bands are hard to tell apart
BAND = "#f3f3f3"


def spread(count: int, step: float = 0.035) -> list[float]:
    """Factors around 1 for a logarithmic x axis: they set the variants' intervals beside each other.

    Say so: `draw_bands` on the axes, `beside` in the small print.
    """
    return [float(2 ** (step * (index - (count - 1) / 2))) for index in range(count)]


def spread_apart(count: int, lengths: Iterable[float], width: float) -> list[float]:
    """`spread` by as much as markers need to stand apart, and by no more than there is room between two lengths.

    Args:
        count: of the lines in one panel.
        lengths: of the axis, which is as wide as `longgen.reporting.style.length_axis` makes it.
        width: of the panel, in inches.
    """
    places = sorted({math.log2(length) for length in lengths})
    gap = min((right - left for left, right in itertools.pairwise(places)), default=1.0)
    octaves = places[-1] - places[0] + 2 * (_FULL_BAND * gap / 2 + 0.1)  # with the margins that full bands need
    marker = _APART / 72 * octaves / width
    return spread(count, min(marker, _FULL_BAND * gap / count))


_APART = 5.0  # points from one marker's centre to the next one's


def marks_apart(points: int, index: int, count: int, most: int = 5) -> tuple[int, int]:
    """Which points of the line ``index`` of ``count`` have a marker: `Line2D`'s ``markevery``, at most ``most`` a line.

    Lines that run close together have theirs at different points, so that they are told apart in grey too.
    """
    every = max(1, -(-points // most))
    return round(index * every / count) % every, every


def beside(shifts: Collection[object]) -> list[str]:
    """The parts of the small print that say what `spread` did; none if it shifted nothing."""
    return [BESIDE] if len(shifts) > 1 else []


def draw_bands(axes: Axes, lengths: Iterable[float], shifts: Sequence[float]) -> None:
    """A grey band behind everything that stands beside each other for one length; none if nothing is shifted."""
    for length in sorted(set(lengths)) if len(shifts) > 1 else []:
        ends = length * min(shifts) / _BAND_EDGE, length * max(shifts) * _BAND_EDGE
        axes.axvspan(*ends, facecolor=BAND, linewidth=0, zorder=0)


def draw_lines(
    axes: Axes, rows: pd.DataFrame, x: str, y: str, look: VariantStyle, shift: float = 1.0, **changes: Any
) -> None:
    """A line with markers of column ``y`` against ``x``, and error bars from ``<y>_low`` to ``<y>_high``.

    Args:
        axes: to draw on.
        rows: one per point.
        x: name of a column.
        y: name of a column; those of the ends of its intervals follow from it.
        look: colour, marker and label.
        shift: factor of x, so that intervals stand beside each other.
        changes: what else the line has, or has otherwise, in matplotlib's words.
    """
    if rows.empty:
        return
    values = rows[y].to_numpy()
    errors = np.vstack([values - rows[f"{y}_low"].to_numpy(), rows[f"{y}_high"].to_numpy() - values])
    line: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.4} | changes
    axes.errorbar(
        rows[x].to_numpy() * shift,
        values,
        yerr=np.clip(errors, 0, None),
        color=look.color,
        marker=look.marker,
        label=look.label,
        elinewidth=0.8,
        capsize=1.8,
        capthick=0.8,
        **line,
    )


def mark_disturbed(axes: Axes, rows: pd.DataFrame, x: str, y: str, flag: str, shift: float = 1.0) -> None:
    """The sign of disturbed measurements beside those points of `draw_lines` whose ``flag`` is set."""
    for row in rows[is_set(rows[flag])].to_dict("records"):
        axes.annotate(
            SIGN, (row[x] * shift, row[y]), (2.5, 2.5), textcoords="offset points", fontsize=7, color=INK, zorder=6
        )


def task_title(task: str) -> str:
    """A task for readers."""
    return TASK_TITLES.get(task, task)


def score_label(task: str) -> str:
    """What its scores are."""
    return "share of the answer" if task in SEVERAL_PARTS else "exact match"


def legend_of_variants(figure: Figure, looks: list[VariantStyle], extra: list[Line2D] | None = None) -> None:
    """One legend below all panels: the variants, then ``extra`` entries."""
    handles: list[Artist] = [
        Line2D([], [], color=look.color, marker=look.marker, label=look.label, markeredgecolor="white", mew=0.4)
        for look in looks
    ]
    legend_below(figure, handles + list(extra or []))


def draw_ideal(axes: Axes, rows: pd.DataFrame, color: str, shift: float = 1.0) -> None:
    """``ideal_speedup`` by ``length``, as the planner predicts it: thin and dashed; of a single length, a dash.

    ``shift`` is that of the measured line, so that both stand above the same place.
    """
    rows = rows.drop_duplicates("length").sort_values("length")
    dash: dict[str, Any] = {"marker": "_", "markersize": 14} if len(rows) == 1 else {}
    axes.plot(shift * rows["length"], rows["ideal_speedup"], color=color, lw=0.8, ls=(0, (3, 2)), **dash)


def ideal_entry(rows: pd.DataFrame, text: str = "ideal, predicted") -> Line2D:
    """The legend entry of what `draw_ideal` drew of ``rows``: thin dashed lines, or dashes where lengths are one."""
    line: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (3, 2))}
    if rows["length"].nunique() == 1:
        line = {"linestyle": "none", "marker": "_", "markersize": 14}
    return Line2D([], [], color=INK, label=text, **line)
