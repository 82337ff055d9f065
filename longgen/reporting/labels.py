"""Direct labels beside points, placed so that they cover neither each other nor a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation

from longgen.reporting.style import VariantStyle


@dataclass(frozen=True)
class Place:
    """Where a label may stand: offset from its point (in points), to the right or left, above or below."""

    dx: float
    dy: float
    right: bool
    above: bool

    @property
    def far(self) -> bool:
        """Whether the label needs a line to its point."""
        return abs(self.dy) > 5

    @property
    def effort(self) -> float:
        """Cost of standing here: near the point is better."""
        return (abs(self.dx) + abs(self.dy)) / 60 + 0.2 * self.far


_PLACES = [
    Place(dx if right else -dx, dy if above else -dy, right, above)
    for dx, dy in ((5.0, 2.0), *((dx, dy) for dy in (9.0, 15.0, 22.0, 30.0, 40.0, 52.0) for dx in (3.0, 14.0)))
    for above in (True, False)
    for right in (True, False)
]


@dataclass(frozen=True)
class LabelledPoint:
    """A point in data coordinates, the ends of its error bars, and its style."""

    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    look: VariantStyle


def label_points(
    axes: Axes, points: Sequence[LabelledPoint], unlabelled: Sequence[LabelledPoint] = ()
) -> list[Annotation]:
    """Write each style's label beside its point; a label that had to move away gets a thin line to its point.

    Call it last: axis limits must be final. ``unlabelled`` points are kept clear of labels too.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # the layout decides where the points are
    gap = np.array([-3, 0, 3, 0]) * figure.dpi / 72  # between labels on a line, or they read as one
    scale, inside = figure.dpi / 72, np.array(axes.get_window_extent(renderer).extents)
    obstacles = np.array([box for point in [*points, *unlabelled] for box in _obstacles(axes, point, scale)])
    # boxes[i, j]: where label i would be at place j; costs alike
    boxes = np.array([_boxes(axes, point, scale, renderer) for point in points])
    areas = _overlap(boxes, boxes)
    covered = _overlap(boxes[:, :, None], obstacles).sum(axis=-1)
    efforts = np.array([place.effort for place in _PLACES])
    costs = (10 * covered + 40 * (areas - _overlap(boxes, inside))) / areas + efforts
    chosen = np.argmin(costs, axis=1)
    for _ in range(3):  # each label gives way to the others, until they agree
        for index in range(len(points)):
            others = np.delete(boxes[np.arange(len(points)), chosen], index, axis=0) + gap
            crowded = 10 * _overlap(boxes[index][:, None], others).sum(axis=-1) / areas[index]
            chosen[index] = np.argmin(costs[index] + crowded)
    return [_write(axes, point, _PLACES[place]) for point, place in zip(points, chosen, strict=True)]


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Area that boxes (left, bottom, right, top on the last axis) have in common, by broadcasting."""
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    return np.clip(sides, 0, None).prod(axis=-1)


def _boxes(axes: Axes, point: LabelledPoint, scale: float, renderer: RendererBase) -> np.ndarray:
    """The label's box in pixels at every place."""
    label = _write(axes, point, _PLACES[0])
    size = label.get_window_extent(renderer).size
    label.remove()
    offsets = np.array([(place.dx, place.dy) for place in _PLACES]) * scale
    away = np.array([(not place.right, not place.above) for place in _PLACES]) * size
    corner = axes.transData.transform((point.x, point.y)) + offsets - away
    return np.hstack([corner, corner + size])


def _obstacles(axes: Axes, point: LabelledPoint, scale: float) -> list[tuple[float, float, float, float]]:
    """Marker and error bars of a point, in pixels."""
    x, y = axes.transData.transform((point.x, point.y))
    left, bottom = axes.transData.transform((point.x_ends[0], point.y_ends[0]))
    right, top = axes.transData.transform((point.x_ends[1], point.y_ends[1]))
    marker, bar = 4 * scale, scale
    return [
        (x - marker, y - marker, x + marker, y + marker),
        (x - bar, bottom, x + bar, top),
        (left, y - bar, right, y + bar),
    ]


def _write(axes: Axes, point: LabelledPoint, place: Place) -> Annotation:
    line = {"arrowstyle": "-", "color": point.look.color, "lw": 0.5, "shrinkA": 0, "shrinkB": 3}
    label = axes.annotate(
        point.look.label,
        (point.x, point.y),
        xytext=(place.dx, place.dy),
        textcoords="offset points",
        ha="left" if place.right else "right",
        va="bottom" if place.above else "top",
        fontsize=7,
        color=point.look.color,
        arrowprops=line if place.far else None,
        path_effects=[withStroke(linewidth=1.8, foreground="white")],
    )
    label.set_in_layout(False)  # or a label near the edge would shrink the panel it was placed in
    return label
