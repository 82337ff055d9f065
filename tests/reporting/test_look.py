"""What holds for every figure: it has its words, they are inside the picture, and they do not cover each other."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from longgen.reporting import BENCHMARKS, EXPERIMENT, FIGURE_NAMES, INFERENCE, KERNELS, REDUCTIONS, STEPS
from longgen.reporting.drawing import settle_layout
from longgen.reporting.figures import FIGURES
from longgen.reporting.run import Run
from longgen.reporting.style import legend_below, new_figure, paper_style, variant_styles
from tests.reporting.fake_run import ABLATION


def drawn_words(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Bbox]]:
    """Every text that is really drawn (a figure holds more: ticks beyond the limits, say), and its box in pixels."""
    found: dict[int, tuple[str, Bbox]] = {}
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

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", record)
        FigureCanvasAgg(figure).draw()
    return list(found.values())


def assert_words_are_inside_and_apart(figure: Figure, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a figure whose layout is settled."""
    with paper_style():
        found = drawn_words(figure, monkeypatch)
        width, height = figure.bbox.width, figure.bbox.height
    assert len(found) > 10
    for words, box in found:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
        assert inside, f"{words!r} is cut off: {box}"
    for (words, box), (others, other) in itertools.combinations(found, 2):
        across = min(box.x1, other.x1) - max(box.x0, other.x0)
        along = min(box.y1, other.y1) - max(box.y0, other.y0)
        # boxes hold room for descenders: a sliver in common is no overlap to the eye
        assert across <= 2 or along <= 4, f"{words!r} covers {others!r}"


EXPERIMENTS = [(name, which) for name in FIGURE_NAMES[EXPERIMENT] for which in ("run", "ablation_run")]
KERNELS = [(name, "kernel_run") for name in FIGURE_NAMES[KERNELS]]
BENCHMARKS = [(name, "benchmark_run") for name in FIGURE_NAMES[BENCHMARKS]]
REDUCTIONS = [(name, "reduced_run") for name in (*FIGURE_NAMES[REDUCTIONS], "pareto")]
MODELS = [(name, "model_run") for name in (*FIGURE_NAMES[STEPS], *FIGURE_NAMES[INFERENCE])]


@pytest.mark.parametrize(("name", "which"), [*EXPERIMENTS, *KERNELS, *BENCHMARKS, *REDUCTIONS, *MODELS])
def test_words_are_inside_and_apart(
    name: str, which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Run = request.getfixturevalue(which)
    with paper_style():
        figure = FIGURES[name](run).figure
        settle_layout(figure)
    assert_words_are_inside_and_apart(figure, monkeypatch)


@pytest.mark.parametrize("name", FIGURE_NAMES[EXPERIMENT])
def test_title_note_and_axis_labels(name: str, run: Run) -> None:
    with paper_style():
        figure = FIGURES[name](run).figure
    assert figure.get_suptitle()
    assert figure.texts[1].get_text().startswith("run smoke \u00b7 model smoke, 6 layers")
    if name != "layouts":  # its x axis has the variants' names
        assert any(axes.get_xlabel() for axes in figure.axes)
    assert any(axes.get_ylabel() for axes in figure.axes) or name == "speedup"


@pytest.mark.parametrize(("name", "which"), [*EXPERIMENTS[::2], *KERNELS, *BENCHMARKS, *REDUCTIONS, *MODELS])
def test_data_has_no_prediction_under_a_measured_name(name: str, which: str, request: pytest.FixtureRequest) -> None:
    data = FIGURES[name](request.getfixturevalue(which)).data
    assert isinstance(data, pd.DataFrame)
    assert len(data)
    predicted = {"ideal_speedup", "kv_bytes_planned"}
    assert not {c for c in data.columns if "ideal" in c or "planned" in c} - predicted


def test_variants_look_alike_everywhere_and_unlike_each_other() -> None:
    looks = variant_styles([*ABLATION, "mine", "another"])
    assert len({look.color for look in looks.values()}) == len(looks)
    assert len({look.marker for look in looks.values()}) == len(looks)
    few = variant_styles(["longgen-stride", "mine"])
    assert few["longgen-stride"] == looks["longgen-stride"]
    assert few["mine"] == looks["mine"]


def test_legend_uses_as_few_rows_as_the_width_allows(run: Run) -> None:
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], label="x" * 14) for _ in range(6)]
    columns = {}
    for width in (3.0, 5.0, 12.0):
        figure = new_figure("title", "note", height=2, width=width)
        legend_below(figure, handles)
        columns[width] = figure.legends[0]._ncols
    assert columns == {3.0: 2, 5.0: 3, 12.0: 6}
