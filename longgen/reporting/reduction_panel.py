"""A panel of KV reductions at inference, by budget, beside the hybrid whose bytes they keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from longgen.reporting import families, style, words
from longgen.reporting.labels import LabelledPoint
from longgen.reporting.lines import BAND
from longgen.reporting.style import VariantStyle
from longgen.reporting.trade_off import TradeOffPoint, draw_points, name_points, reduction_style

TITLE = "KV reductions at inference beside the hybrid whose bytes they keep"
_GROUP = 0.8  # of the room of a budget: the band of all that keeps as much


def prepare_reductions(axes: Axes, data: pd.DataFrame) -> None:
    """Everything but the points: a place per budget, named below, and full attention as a line.

    Args:
        axes: to draw on.
        data: columns ``name`` (a variant or a method), ``family``, ``budget_of`` (of methods), ``kv_fraction`` and
            ``score``.
    """
    budgets = _budgets(data)
    names = [
        f"bytes of {words.variant_label(name)}\n{words.format_percent(rows['kv_fraction'].mean())} of the KV cache"
        for name, rows in budgets.items()
    ]
    axes.set_xlim(-0.55, len(budgets) - 0.3)
    axes.set_xticks(range(len(budgets)), names)
    axes.tick_params(axis="x", length=0)
    for place in range(len(budgets)):
        axes.axvspan(place - _GROUP / 2, place + _GROUP / 2, facecolor=BAND, linewidth=0, zorder=0)
    axes.set_ylim(-0.04, 1.14)  # room for names above what is best
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(axis="y")
    axes.set_title(TITLE)
    for score in _full(data):
        axes.axhline(score, color=style.FULL, linewidth=0.9, zorder=1)
        text = axes.annotate(
            "full attention",
            (0.996, score),
            (0, -2),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
        )
        text.set(ha="right", va="top", fontsize=7, color=style.FULL)


def draw_reductions(
    axes: Axes, data: pd.DataFrame, looks: dict[str, VariantStyle], seeds: pd.DataFrame | None = None
) -> None:
    """At each budget the hybrid, then the methods, those of one method connected; the largest budget has the names.

    Args:
        axes: what `prepare_reductions` made; the layout must be final.
        data: with columns ``score_low`` and ``score_high`` too.
        looks: of the variants.
        seeds: rows of single seeds, drawn as small dots.
    """
    methods = words.in_method_order(data.loc[data["family"] == families.REDUCTION, "name"])
    places = np.linspace(-_GROUP / 2, _GROUP / 2, len(methods) + 3)[1:-1]  # the hybrid and the methods, in a band
    points: dict[str, list[TradeOffPoint]] = {}
    for group, (budget_of, rows) in enumerate(_budgets(data).items()):
        hybrid = data[(data["name"] == budget_of) & (data["family"] != families.REDUCTION)]
        for row in [*hybrid.to_dict("records"), *rows.to_dict("records")]:
            is_reduction, name = row["family"] == families.REDUCTION, str(row["name"])
            x = group + places[1 + methods.index(name) if is_reduction else 0]
            look = reduction_style(name) if is_reduction else looks[name]
            point = LabelledPoint(x, row["score"], (x, x), (row["score_low"], row["score_high"]), look)
            is_main = row["family"] == families.REFERENCE
            points.setdefault(name, []).append(TradeOffPoint(point, is_reduction, is_main, not is_reduction))
            if seeds is not None:
                own = seeds[(seeds["name"] == name) & (seeds["budget_of"] == budget_of if is_reduction else True)]
                axes.plot([x] * len(own), own["score"], ".", color=look.color, ms=4, alpha=0.7, mew=0, zorder=2)
    lines = [np.array([(place, score) for place in axes.get_xlim()]) for score in _full(data)]
    for name in [name for name in points if name in methods]:
        own_points = points[name]
        own_points[-1] = replace(own_points[-1], has_label=True)
        line = np.array([(each.point.x, each.point.y) for each in own_points])
        axes.plot(*line.T, color=own_points[0].point.look.color, lw=0.6, alpha=0.5, zorder=1)
        lines += [line] if len(line) > 1 else []
    drawn = draw_points(axes, [each for own_points in points.values() for each in own_points])
    name_points(axes, drawn, lines)


def _full(data: pd.DataFrame) -> list[float]:
    return list(data.loc[data["family"] == families.FULL, "score"])


def _budgets(data: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The reductions by budget, the smallest first."""
    reductions = data[data["family"] == families.REDUCTION]
    smallest = reductions.groupby("budget_of")["kv_fraction"].mean().sort_values(kind="stable").index
    return {str(name): reductions[reductions["budget_of"] == name] for name in smallest}
