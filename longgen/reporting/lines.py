"""Lines with intervals and the legend of variants, shared by the figures that show something by length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from longgen.reporting.measures import SEVERAL_PARTS, TASK_TITLES
from longgen.reporting.style import ABOVE, INK, VariantStyle, legend_below

BESIDE = "beside each other in a grey band: all at one length"  # for the small print
_BAND_EDGE = 1.025  # factor from the outermost marker to the edge of its band
_BAND = "#f3f3f3"


def spread(count: int, step: float = 0.035) -> list[float]:
    """Factors around 1 for a logarithmic x axis: they set the variants' intervals beside each other.

    Say so: `draw_bands` on the axes, `beside` in the small print.
    """
    return [float(2 ** (step * (index - (count - 1) / 2))) for index in range(count)]


def beside(shifts: Sequence[float]) -> list[str]:
    """The parts of the small print that say what `spread` did; none if it shifted nothing."""
    return [BESIDE] if len(shifts) > 1 else []


def draw_bands(axes: Axes, lengths: Iterable[float], shifts: Sequence[float]) -> None:
    """A grey band behind everything that stands beside each other for one length; none if nothing is shifted."""
    for length in sorted(set(lengths)) if len(shifts) > 1 else []:
        ends = length * min(shifts) / _BAND_EDGE, length * max(shifts) * _BAND_EDGE
        axes.axvspan(*ends, facecolor=_BAND, linewidth=0, zorder=0)


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


def describe_task(axes: Axes, task: str, first: bool) -> None:
    """Title and y axis of a panel with the scores of ``task``; ``first`` in its row has a label."""
    title, several = TASK_TITLES.get(task, task), task in SEVERAL_PARTS
    axes.set_title(f"{title}: share" if several else title, pad=ABOVE)
    axes.set_ylim(-0.03, 1.03)
    axes.grid(axis="y")
    if first:
        axes.set_ylabel("share of the answer" if several else "exact match")


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


def ideal_entry(text: str = "ideal, predicted") -> Line2D:
    """The legend entry of the planner's thin dashed lines."""
    return Line2D([], [], color=INK, linewidth=0.8, linestyle=(0, (3, 2)), label=text)
