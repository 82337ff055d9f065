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

from longgen.reporting.style import VariantStyle, text_color


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
    for dx, dy in (
        (5.0, 2.0),
        *((dx, dy) for dy in (9.0, 15.0, 22.0, 30.0, 40.0, 52.0, 66.0) for dx in (3.0, 14.0, 30.0, 50.0, 75.0)),
    )
    for above in (True, False)
    for right in (True, False)
]
_STARTS, _SWEEPS = 6, 12  # of the search: from so many beginnings, so often over all labels
_CROSSING = 3.0  # cost of two lines that cross, and of a line across a label
_ACROSS_MARKER = 0.6
_ON_LINE = 1.0  # of words on a line


@dataclass(frozen=True)
class LabelledPoint:
    """A point in data coordinates, the ends of its error bars, and its style."""

    x: float
    y: float
    x_ends: tuple[float, float]
    y_ends: tuple[float, float]
    look: VariantStyle


def label_points(
    axes: Axes,
    points: Sequence[LabelledPoint],
    without_label: Sequence[LabelledPoint] = (),
    lines: Sequence[np.ndarray] = (),
) -> list[Annotation]:
    """Write each style's label beside its point; a label that had to move away gets a thin line to its point.

    Labels cover neither each other nor points, and their lines cross as little as can be. Call it last: axis limits
    must be final. Points ``without_label`` are kept clear of labels too, and so are ``lines``, each [points, 2] in data
    coordinates, as far as there is room.
    """
    figure = axes.figure
    assert isinstance(figure, Figure)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()  # the layout decides where the points are
    scale, inside = figure.dpi / 72, np.array(axes.get_window_extent(renderer).extents)
    everything = [*points, *without_label]
    obstacles = np.array([box for point in everything for box in _obstacles(axes, point, scale)])
    markers = axes.transData.transform([(point.x, point.y) for point in everything])
    # boxes[i, j]: where label i would be at place j; costs and lines alike
    boxes = np.array([_boxes(axes, point, scale, renderer) for point in points])
    far = np.array([place.far for place in _PLACES])
    pointers = _lines(boxes, markers[: len(points)], far)
    areas = _overlap(boxes, boxes)
    obstacle_area = _overlap(boxes[:, :, None], obstacles).sum(axis=-1)
    efforts = np.array([place.effort for place in _PLACES])
    costs = (10 * obstacle_area + 40 * (areas - _overlap(boxes, inside))) / areas + efforts
    for index in range(len(points)):
        others = np.delete(markers, index, axis=0)
        around = np.hstack([others - 3 * scale, others + 3 * scale])
        costs[index] += _ACROSS_MARKER * _runs_through(pointers[index][:, None], around).sum(axis=-1)
    if drawn := [_segments(axes, line) for line in lines]:
        costs += _ON_LINE * _runs_through(np.vstack(drawn), boxes[:, :, None]).any(axis=-1)
    places = _arrange(costs, boxes, pointers, areas, gap=3 * scale)
    return [_write(axes, point, _PLACES[place]) for point, place in zip(points, places, strict=True)]


def _segments(axes: Axes, line: np.ndarray) -> np.ndarray:
    """The pieces of a line in pixels, as (x, y, x, y)."""
    places = axes.transData.transform(line)
    return np.hstack([places[:-1], places[1:]])


def _arrange(costs: np.ndarray, boxes: np.ndarray, lines: np.ndarray, areas: np.ndarray, gap: float) -> np.ndarray:
    """A place for each label: each gives way to the others until they agree; the best of several beginnings."""
    count = len(costs)
    aside = gap * np.array([-1, 0, 1, 0])  # between labels on a line, or they read as one
    random, best, least = np.random.default_rng(0), np.argmin(costs, axis=1), np.inf
    for start in range(_STARTS):
        places = np.argmin(costs + (random.random(costs.shape) if start else 0), axis=1)
        for _ in range(_SWEEPS):
            before, total = places.copy(), 0.0
            for index in random.permutation(count) if start else range(count):
                others = np.delete(np.arange(count), index)
                other_boxes, other_lines = boxes[others, places[others]], lines[others, places[others]]
                own, line = boxes[index][:, None], lines[index][:, None]
                crowded = 10 * _overlap(own, other_boxes + aside).sum(axis=-1) / areas[index]
                crossing = (
                    _cross(line, other_lines) + 1.0 * _runs_through(line, other_boxes) + _runs_through(other_lines, own)
                )
                at = costs[index] + crowded + _CROSSING * crossing.sum(axis=-1)
                places[index] = np.argmin(at)
                total += at[places[index]]
            if (places == before).all():
                break
        if total < least:
            best, least = places, total
    return best


def _lines(boxes: np.ndarray, points: np.ndarray, far: np.ndarray) -> np.ndarray:
    """The line from each label to its point, as (x, y, x, y) on the last axis; NaN where there is none."""
    start = np.clip(points[:, None], boxes[..., :2], boxes[..., 2:])
    ends = np.broadcast_to(points[:, None], start.shape)
    return np.where(far[:, None], np.concatenate([start, ends], axis=-1), np.nan)


def _cross(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Whether lines cross, by broadcasting; a line that is NaN crosses none."""

    def side(line: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        along, across = line[..., 2] - line[..., 0], line[..., 3] - line[..., 1]
        return along * (y - line[..., 1]) - across * (x - line[..., 0])

    apart = side(first, second[..., 0], second[..., 1]) * side(first, second[..., 2], second[..., 3])
    return (apart < 0) & (side(second, first[..., 0], first[..., 1]) * side(second, first[..., 2], first[..., 3]) < 0)


def _runs_through(line: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Whether lines run through boxes (left, bottom, right, top), by broadcasting: they cross a diagonal."""
    left, bottom, right, top = np.moveaxis(box, -1, 0)
    diagonals = (np.stack([left, bottom, right, top], axis=-1), np.stack([left, top, right, bottom], axis=-1))
    return _cross(line, diagonals[0]) | _cross(line, diagonals[1])


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
    corner = (0 if place.right else 1, 0 if place.above else 1)  # of the words, next to the point
    line = {"arrowstyle": "-", "color": point.look.color, "lw": 0.5, "shrinkA": 0, "shrinkB": 3, "relpos": corner}
    label = axes.annotate(
        point.look.label,
        (point.x, point.y),
        xytext=(place.dx, place.dy),
        textcoords="offset points",
        ha="left" if place.right else "right",
        va="bottom" if place.above else "top",
        fontsize=7,
        color=text_color(point.look.color),
        arrowprops=line if place.far else None,
        path_effects=[withStroke(linewidth=1.8, foreground="white")],
    )
    label.set_in_layout(False)  # or a label near the edge would shrink the panel it was placed in
    return label
