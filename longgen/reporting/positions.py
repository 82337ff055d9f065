"""Perplexity by position in the context, shared by the figures of held-out and of long text."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from longgen.reporting import style, words
from longgen.reporting.style import VariantStyle

COLUMNS = [
    *("variant", "position_start", "position_end", "n", "nll", "nll_low", "nll_high"),
    *("perplexity", "perplexity_low", "perplexity_high"),
]


def with_perplexity_interval(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` with the ends of the interval of perplexity: exp of those of ``nll``."""
    return rows.assign(perplexity_low=np.exp(rows["nll_low"]), perplexity_high=np.exp(rows["nll_high"]))


def draw_positions(
    axes: Axes,
    data: pd.DataFrame,
    looks: Mapping[str, VariantStyle],
    marks: Mapping[str, float],
    bands: Collection[str] | None = None,
) -> None:
    """Perplexity per bin of positions, a line per variant, with 95 % intervals as bands.

    Args:
        axes: to draw on.
        data: rows of `with_perplexity_interval`, columns `COLUMNS` at least.
        looks: by variant.
        marks: lengths in tokens to mark, by their text, where they lie within the positions.
        bands: the variants whose intervals are drawn; None: all.
    """
    for name in dict.fromkeys(data["variant"]):
        rows, look = data[data["variant"] == name].sort_values("position_start"), looks[name]
        centre = (rows["position_start"] + rows["position_end"]) / 2
        if bands is None or name in bands:
            ends = rows["perplexity_low"], rows["perplexity_high"]
            axes.fill_between(centre, *ends, color=look.color, alpha=0.15, linewidth=0)
        axes.plot(
            centre,
            rows["perplexity"],
            color=look.color,
            marker=look.marker,
            label=look.label,
            markeredgecolor="white",
            mew=0.4,
        )
    position_axis(axes, data, marks)
    wide = log_if_wide(axes, data["perplexity"])
    axes.set_ylabel("perplexity (log scale)" if wide else "perplexity")


def position_axis(axes: Axes, data: pd.DataFrame, marks: Mapping[str, float]) -> None:
    """The x axis of positions up to the last one of ``data``, with ``marks`` as `draw_positions` takes them."""
    end = float(data["position_end"].max())
    for text, length in marks.items():
        if length < end:
            style.mark_length(axes, length, text)
    axes.set_xlim(0, end * 1.03)
    axes.set_xticks(*_ticks(end))
    axes.set_xlabel("position in the context (tokens)")
    axes.grid(axis="y")


def log_if_wide(axes: Axes, perplexity: pd.Series) -> bool:
    """A logarithmic y axis where values are far apart: a variant that breaks down must not flatten the others."""
    wide = bool(perplexity.max() > 4 * perplexity.min())
    if wide:
        axes.set_yscale("log")
    return wide


def _ticks(end: float) -> tuple[list[float], list[str]]:
    """Quarters of the next power of two, up to the end."""
    step = 2 ** np.ceil(np.log2(end)) / 4
    ticks = [float(value) for value in np.arange(0, end + 1, step)]
    return ticks, [words.format_length(tick) for tick in ticks]
