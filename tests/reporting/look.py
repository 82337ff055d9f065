"""What is wrong with the look of a figure: words cut off or on top of each other, and ticks without labels."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

Words = dict[int, tuple[str, Bbox]]


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
    shown = [axes for axes in figure.axes if axes.get_visible() and axes.axison]
    for axes, direction in itertools.product(shown, ("x", "y")):
        others = [other for other in shown if _in_line(axes, other, direction)]
        if _has_ticks(axes, direction) and not any(_labels(each, direction) for each in (axes, *others)):
            name = axes.get_title() or axes.get_xlabel() or axes.get_position()
            found.append(f"the {direction} ticks of {name!r} have no labels, nor has a panel in line with it")
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
