"""What holds for every figure: it has its words, inside the picture and apart, and its ticks have labels."""

from __future__ import annotations

import pandas as pd
import pytest
from matplotlib.figure import Figure

from longgen.reporting import BENCHMARKS, EXPERIMENT, FIGURE_NAMES, INFERENCE, KERNELS, REDUCTIONS, STEPS
from longgen.reporting.drawing import settle_layout
from longgen.reporting.figures import FIGURES
from longgen.reporting.run import Run
from longgen.reporting.style import legend_below, new_figure, paper_style, variant_styles
from tests.reporting.fake_run import ABLATION
from tests.reporting.look import problems_of, recorded_words


def assert_looks_right(figure: Figure, but: str = "nothing") -> None:
    """Lays it out, too. Problems with ``but`` in their words do not count."""
    with paper_style(), recorded_words() as found:
        settle_layout(figure)
    assert len(found) > 10
    assert [problem for problem in problems_of(figure, found) if but not in problem] == []


EXPERIMENTS = [(name, which) for name in FIGURE_NAMES[EXPERIMENT] for which in ("run", "ablation_run")]
KERNELS = [(name, "kernel_run") for name in FIGURE_NAMES[KERNELS]]
BENCHMARKS = [(name, "benchmark_run") for name in FIGURE_NAMES[BENCHMARKS]]
REDUCTIONS = [(name, "reduced_run") for name in (*FIGURE_NAMES[REDUCTIONS], "pareto")]
MODELS = [(name, "model_run") for name in (*FIGURE_NAMES[STEPS], *FIGURE_NAMES[INFERENCE])]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "which"), [*EXPERIMENTS, *KERNELS, *BENCHMARKS, *REDUCTIONS, *MODELS])
def test_words_are_inside_and_apart_and_ticks_have_labels(
    name: str, which: str, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(which)
    with paper_style():
        figure = FIGURES[name](run).figure
    # kernels that are as fast as each other are told apart in their table
    assert_looks_right(figure, but="cover each other" if name == "kernels" else "nothing")


def test_a_figure_that_looks_wrong_is_found() -> None:
    with paper_style():
        figure = new_figure("A title", "a note", height=2)
        left, right = figure.subplots(1, 2, sharey=True)
        figure.text(0.99, 0.5, "words beyond the edge")
        for _ in range(2):
            left.text(0.5, 0.5, "twice")
        right.set_xticks([0.5], [""])
        with recorded_words() as found:
            settle_layout(figure)
    cut, covered, bare = problems_of(figure, found)  # and in this order
    assert "'words beyond the edge' is cut off" in cut
    assert covered == "'twice' covers 'twice'"
    assert bare.startswith("the x ticks of")


def test_what_is_crowded_is_found() -> None:
    with paper_style():
        figure = new_figure("A title", "a note", height=2)
        left, middle, right = figure.subplots(1, 3)
        for name, x in (("first", 0.5), ("second", 0.501), ("apart", 0.8)):
            left.errorbar([x], [0.5], yerr=0.1, marker="o", linestyle="none", label=name)
        middle.errorbar([0.5], [0.5], yerr=0.1, marker="o", linestyle="none", label="named")
        middle.set(xlim=(0, 1), ylim=(0, 1))
        middle.text(0.5, 0.5, "words on it", ha="center", va="center")
        left.set(xlim=(0, 1), xticks=[0.1, 0.5, 0.9])
        right.set(xlim=(0, 1), xticks=[0.3, 0.99])
        right.set_xticklabels(["30 %", "a long label"])
        right.text(0.2, 0.6, "one word")
        with recorded_words() as found:
            settle_layout(figure)
            words = right.texts[0].get_window_extent()
            end = right.transData.inverted().transform((words.x1 + 1, words.y0))
            right.text(*end, "and another")
            figure.draw_without_rendering()
    problems = problems_of(figure, found)
    for expected in (
        "a marker of 'first' and one of 'second' cover each other",
        "'words on it' covers a marker of 'named'",
        "'one word' runs into 'and another'",
        "'a long label' stands out of its axes",
    ):
        assert expected in problems
    assert not any("apart" in problem or "30 %" in problem for problem in problems)


def test_titles_and_notes_that_are_too_wide_go_on_in_another_line() -> None:
    with paper_style():
        short, long = (new_figure("word " * n, " \u00b7 ".join(["a part of it"] * n), height=2) for n in (2, 40))
        title, note = (text.get_text().split("\n") for text in long.texts)
        assert all(text.get_window_extent().x1 < long.bbox.x1 for text in long.texts)
    assert [len(text.get_text().split("\n")) for text in short.texts] == [1, 1]
    assert len(title) > 1
    assert len(note) > 1
    assert " \u00b7 ".join(note).count("a part of it") == 40
    assert long.get_figheight() > short.get_figheight() == 2


@pytest.mark.parametrize("name", FIGURE_NAMES[EXPERIMENT])
def test_title_note_and_axis_labels(name: str, run: Run) -> None:
    with paper_style():
        figure = FIGURES[name](run).figure
    assert figure.get_suptitle()
    assert figure.texts[1].get_text().startswith("run smoke \u00b7 model smoke, 6 layers")
    # where an axis has the names of variants, or of tasks
    assert any(axes.get_xlabel() for axes in figure.axes) or name == "task_scores"
    assert any(axes.get_ylabel() for axes in figure.axes) or name in ("speedup", "layouts")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "which"), [*EXPERIMENTS[::2], *KERNELS, *BENCHMARKS, *REDUCTIONS, *MODELS])
def test_data_has_no_prediction_under_a_measured_name(name: str, which: str, request: pytest.FixtureRequest) -> None:
    data = FIGURES[name](request.getfixturevalue(which)).data
    assert isinstance(data, pd.DataFrame)
    assert len(data)
    predicted = {"ideal_speedup", "kv_bytes_planned", "kv_fraction_planned"}
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
