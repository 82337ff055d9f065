"""What is wrong with the look of a figure: words cut off, on top of each other or of markers, markers on top of each
other, and ticks without labels or with labels that stand out of their axes.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

Words = dict[int, tuple[str, Bbox]]
_OVERHANG = 6.3  # points: the half of a short label, whose tick is the end of its axis


@contextlib.contextmanager
def recorded_words() -> Iterator[Words]:
    """Every text that is really drawn meanwhile (a figure holds more: ticks beyond the limits, say), with its box in
    pixels. Of several passes the last one counts.
    """
    found: Words = {}
    draw = Text.draw

    def record(self: Text, renderer: Any, *arguments: Any, **keywords: Any) -> None:
        draw(self, renderer, *arguments, **keywords)
        if self.get_visible() and self.get_text().strip():
            line = getattr(self, "arrow_patch", None)
            if isinstance(self, Annotation):
                self.arrow_patch = None  # the words, not the line to the point
            found[id(self)] = (self.get_text(), Text.get_window_extent(self, renderer))
            if isinstance(self, Annotation):
                self.arrow_patch = line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", record)
        yield found


def problems_of(figure: Figure, words: Words) -> list[str]:
    """What is wrong, in words; ``words`` are those of the figure, drawn with its final layout."""
    found, (width, height) = [], figure.bbox.size
    for text, box in words.values():
        if not (box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1):
            found.append(f"{text!r} is cut off: {box}")
    for (text, box), (other_text, other) in itertools.combinations(words.values(), 2):
        across = min(box.x1, other.x1) - max(box.x0, other.x0)
        along = min(box.y1, other.y1) - max(box.y0, other.y0)
        # boxes hold room for descenders: a sliver in common is no overlap to the eye
        if across > 2 and along > 4:
            found.append(f"{text!r} covers {other_text!r}")
        elif across > -3 and along > 0.7 * min(box.height, other.height):
            found.append(f"{text!r} runs into {other_text!r}")
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.axison]
    for axes, direction in itertools.product(shown, ("x", "y")):
        others = [other for other in shown if _in_line(axes, other, direction)]
        if _has_ticks(axes, direction) and not any(_labels(each, direction) for each in (axes, *others)):
            name = axes.get_title() or axes.get_xlabel() or axes.get_position()
            found.append(f"the {direction} ticks of {name!r} have no labels, nor has a panel in line with it")
    for axes in shown:
        found += _overhanging(axes, words)
        found += _covered_markers(axes, words)
    return found


def _overhanging(axes: Axes, words: Words) -> list[str]:
    """Labels of x ticks that stand out of the axes: further than that of a tick at their very end."""
    box = axes.get_window_extent()
    labels = [text for tick in axes.xaxis.get_major_ticks() for text in (tick.label1, tick.label2)]
    drawn = [words[id(label)] for label in labels if id(label) in words]
    return [
        f"{text!r} stands out of its axes"
        for text, place in drawn
        if max(box.x0 - place.x0, place.x1 - box.x1) > _OVERHANG / 72 * axes.figure.dpi
    ]


def _covered_markers(axes: Axes, words: Words) -> list[str]:
    """Markers of lines with names that another such marker covers for the greater part, or words."""
    scale, markers = axes.figure.dpi / 72, []
    for container in axes.containers:
        line = container[0] if isinstance(container, ErrorbarContainer) else None
        if line is not None and line.get_visible() and not str(container.get_label()).startswith("_"):
            places = axes.transData.transform(np.column_stack(line.get_data()).astype(float))
            markers += [(container.get_label(), place, line.get_markersize() * scale) for place in places]
    found = []
    for (name, place, size), (other, other_place, other_size) in itertools.combinations(markers, 2):
        if name != other and np.abs(place - other_place).max() < 0.4 * min(size, other_size):
            found.append(f"a marker of {name!r} and one of {other!r} cover each other")
    for text in [text for text in axes.texts if id(text) in words]:
        name, box = words[id(text)]
        for other, place, _ in markers:
            if box.x0 + 3 < place[0] < box.x1 - 3 and box.y0 + 3 < place[1] < box.y1 - 3:
                found.append(f"{name!r} covers a marker of {other!r}")
    return found


def _has_ticks(axes: Axes, direction: str) -> bool:
    """Whether any is seen, of an axis that is seen."""
    axis = axes.xaxis if direction == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    edge = (high - low) * 1e-9
    return axis.get_visible() and any(low - edge <= tick <= high + edge for tick in axis.get_ticklocs())


def _labels(axes: Axes, direction: str) -> list[str]:
    axis = axes.xaxis if direction == "x" else axes.yaxis
    texts = [text for tick in axis.get_major_ticks() for text in (tick.label1, tick.label2) if text.get_visible()]
    return [text.get_text() for text in texts if text.get_text().strip()]


def _in_line(axes: Axes, other: Axes, direction: str) -> bool:
    """Whether the labels of ``other`` are right for ``axes``: in the same column or line, with the same limits."""
    place, others = axes.get_position(), other.get_position()
    if direction == "x":
        same = (place.x0, place.x1, *axes.get_xlim()), (others.x0, others.x1, *other.get_xlim())
    else:
        same = (place.y0, place.y1, *axes.get_ylim()), (others.y0, others.y1, *other.get_ylim())
    return same[0] == pytest.approx(same[1], rel=1e-3, abs=2e-3)
