"""Scores against what they cost, shared by `pareto` and `seeds_knee`: a marker per method, each named beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from longgen.names import DUO_ATTENTION, H2O, LM_INFINITE, PYRAMIDKV, SINK_WINDOW, SNAPKV, STREAMING_LLM, TOVA
from longgen.reporting import style, words
from longgen.reporting.labels import LabelledPoint, label_points
from longgen.reporting.style import VariantStyle

FRONT = "#cfcfcf"  # of the line below the points
APART = "points that would cover each other stand side by side"  # for the small print
_REDUCTION_COLOR = "#8C564B"
_MARKERS = dict(
    zip(
        (DUO_ATTENTION, SNAPKV, PYRAMIDKV, SINK_WINDOW, TOVA, STREAMING_LLM, LM_INFINITE, H2O),
        ("o", "v", "^", "s", "D", "<", ">", "p"),
        strict=True,
    )
)
# Where the axis of scores is stretched, and the step of its ticks above.
_TICK_STEPS = {0.9: 0.02, 0.8: 0.05, 0.7: 0.1, 0.6: 0.1, 0.5: 0.1}
_BELOW = 0.4  # of the height: what is left to the scores below


@dataclass(frozen=True)
class TradeOffPoint:
    """A point, and how it is drawn.

    Attributes:
        point: where it is.
        is_reduction: of a full model with its KV cache reduced at inference: drawn hollow.
        main: of the method that all is about: larger, and on top.
        has_label: whether its label is written.
    """

    point: LabelledPoint
    is_reduction: bool = False
    main: bool = False
    has_label: bool = True


def reduction_style(method: str) -> VariantStyle:
    """The look of a method that reduces the KV cache at inference."""
    return VariantStyle(_REDUCTION_COLOR, _MARKERS.get(method, "h"), words.method_label(method))


def reduced_entry() -> Line2D:
    """The legend entry of all of them."""
    marker: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 1.0, "linestyle": "none"}
    return Line2D(
        [], [], color=_REDUCTION_COLOR, marker="o", label="hollow: full attention, KV reduced at inference", **marker
    )


def cost_axis(axes: Axes, costs: Iterable[float], margin: float) -> None:
    """The x axis of costs, with a share of their range as margin on either side."""
    values = np.array(list(costs), float)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    pad = margin * (high - low) or 0.1
    axes.set_xlim(low - pad, high + pad)


def axis_break(scores: Iterable[float]) -> float | None:
    """Above which score the axis has more room: where most of ``scores`` are, if others are far below."""
    values = np.array(list(scores), float)
    crowded = next((low for low in _TICK_STEPS if (values >= low).mean() > 0.5), None) if len(values) else None
    return crowded if crowded and values.min() < crowded - 0.1 else None


def score_axis(axes: Axes, break_at: float | None) -> None:
    """The y axis of scores from 0 to 1, stretched above ``break_at``, which is shaded and marked as a break."""
    if break_at is None:
        axes.set_ylim(-0.04, 1.04)
        return
    scores, places = np.array([0.0, break_at, 1.0]), np.array([0.0, _BELOW, 1.0])
    slopes = np.diff(places) / np.diff(scores)

    def forward(score: np.ndarray) -> np.ndarray:
        return np.where(score < break_at, slopes[0] * score, _BELOW + slopes[1] * (score - break_at))

    def inverse(place: np.ndarray) -> np.ndarray:
        return np.where(place < _BELOW, place / slopes[0], break_at + (place - _BELOW) / slopes[1])

    axes.set_yscale("function", functions=(forward, inverse))
    top = 1 + 0.12 * (1 - break_at)
    axes.set_ylim(-0.06, top)
    below = np.arange(0, break_at - 0.1, 0.2)
    above = np.arange(break_at, 1.001, _TICK_STEPS[break_at])
    axes.yaxis.set_major_locator(FixedLocator([*below, *above]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.axhspan(break_at, top, facecolor="#f7f4ec", linewidth=0, zorder=0)
    axes.axhline(break_at, color=style.MUTED, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1)
    axes.plot(  # two strokes across the spine
        [0, 0],
        [break_at, break_at - 0.03],
        marker=[(-1, -0.6), (1, 0.6)],
        markersize=7,
        color=style.INK,
        markeredgewidth=0.8,
        linestyle="none",
        transform=axes.get_yaxis_transform(),
        clip_on=False,
        zorder=5,
    )


def stretch_note(break_at: float | None) -> list[str]:
    """The part of the small print that says so, if the axis is stretched."""
    return [] if break_at is None else [f"shaded: the axis is stretched above {break_at:g}"]


def draw_points(axes: Axes, points: Sequence[TradeOffPoint]) -> list[TradeOffPoint]:
    """Markers with error bars; returns them as they are drawn, set apart. The limits of the axes must be final."""
    drawn_points = _apart(axes, points)
    for each in drawn_points:
        point, look = each.point, each.point.look
        axes.errorbar(
            point.x,
            point.y,
            xerr=_distances(point.x, point.x_ends),
            yerr=_distances(point.y, point.y_ends),
            color=look.color,
            marker=look.marker,
            label=look.label,
            markersize=_size(each),
            markerfacecolor="white" if each.is_reduction else look.color,
            markeredgecolor=look.color if each.is_reduction else "white",
            markeredgewidth=1.0 if each.is_reduction else 0.5,
            ecolor=(look.color, 0.4),
            elinewidth=0.8,
            capsize=1.5,
            linestyle="none",
            zorder=5 if each.main else 3.5 if each.is_reduction else 4,
        )
    return drawn_points


def name_points(axes: Axes, points: Sequence[TradeOffPoint], lines: Sequence[np.ndarray] = ()) -> None:
    """The labels of what `draw_points` returned, clear of ``lines`` as `label_points` has them; call it last."""
    labelled_points = [each.point for each in points if each.has_label]
    if labelled_points:
        label_points(axes, labelled_points, [each.point for each in points if not each.has_label], lines)


def _size(each: TradeOffPoint) -> float:
    """Of its marker, in points."""
    return 8.0 if each.main else 5.0 if each.is_reduction else 6.0


def _apart(axes: Axes, points: Sequence[TradeOffPoint]) -> list[TradeOffPoint]:
    """Points whose markers would cover each other, side by side around the place where they are."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    scale = figure.dpi / 72
    places = axes.transData.transform([(each.point.x, each.point.y) for each in points]) / scale
    sizes = np.array([_size(each) for each in points])
    moved_points = list(points)
    rest = list(range(len(points)))
    while rest:
        group = [rest.pop(0)]
        for member in group:  # grows while it is walked through
            room = (sizes + sizes[member]) / 2
            near = [other for other in rest if np.abs(places[other] - places[member]).max() < room[other]]
            group += near
            rest = [other for other in rest if other not in near]
        group.sort(key=lambda index: (places[index][0], points[index].is_reduction))
        ends = np.cumsum(sizes[group] + _GAP)
        middles = ends - (sizes[group] + _GAP) / 2 - ends[-1] / 2
        middle = np.mean([places[index][0] for index in group])
        for aside, index in zip(middles, group if len(group) > 1 else [], strict=False):
            place = (middle + aside) * scale, places[index][1] * scale
            moved_x = float(axes.transData.inverted().transform(place)[0])
            point = points[index].point
            low, high = (end + moved_x - point.x for end in point.x_ends)
            moved_points[index] = replace(points[index], point=replace(point, x=moved_x, x_ends=(low, high)))
    return moved_points


_GAP = 0.5  # points between markers side by side


def _distances(value: float, ends: tuple[float, float]) -> np.ndarray | None:
    """To the ends of the interval, as `Axes.errorbar` wants them; None for a value that has none."""
    low, high = ends
    return None if low == high == value else np.clip([[value - low], [high - value]], 0, None)
