"""What each figure draws, value by value, against the made-up run."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex, to_rgba
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from longgen.layout import Layout
from longgen.pattern import dense_pairs
from longgen.reporting.drawing import Drawing
from longgen.reporting.figures import FIGURES
from longgen.reporting.figures.pattern import ROLES, roles
from longgen.reporting.figures.training import smooth
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import FULL, RED_BLUE, heat_colors, paper_style, variant_styles
from tests.reporting.fake_run import (
    ABLATION,
    BASE,
    DEFAULTS,
    DEPTHS,
    LENGTHS,
    PATTERNS,
    TASKS,
    TRAINED,
    exact,
    write_run,
)

LABELS = {
    "full": "full attention",
    "longgen-sink": "LongGen (sink)",
    "longgen-stride": "LongGen (stride)",
    "all-sparse": "all layers sparse",
}
HYBRIDS = [name for name in DEFAULTS if name != "full"]


def draw(name: str, run: Run) -> Drawing:
    with paper_style():
        drawing = FIGURES[name](run)
        drawing.figure.draw_without_rendering()
    return drawing


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def panels(figure: Figure) -> list[Axes]:
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def vertical_lines(axes: Axes) -> list[float]:
    return [
        line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    ]


def errorbars(axes: Axes) -> dict[str, ErrorbarContainer]:
    return {c.get_label(): c for c in axes.containers if isinstance(c, ErrorbarContainer)}


def ends(container: ErrorbarContainer, axis: int = 1) -> np.ndarray:
    """The ends of the error bars: one row per point, low and high."""
    for bars in container.lines[2]:
        segments = np.array(bars.get_segments())
        if len(segments) and np.ptp(segments[:, :, 1 - axis], axis=1).max() == 0:
            return segments[:, :, axis]
    raise AssertionError("no error bars")


# ---------------------------------------------------------------- pattern and layouts
def test_roles_are_the_pattern() -> None:
    names = list(ROLES)
    for pattern in PATTERNS.values():
        matrix = roles(pattern, 40)
        for query in range(40):
            seen = np.nonzero(matrix[query] > 0)[0]
            assert list(seen) == list(pattern.visible_blocks(query))
        assert names[matrix[30, 30]] == names[matrix[30, 27]] == "local window"
        assert names[matrix[30, 26]] == "not seen"
        assert names[matrix[30, 0]] == "sink"
        assert matrix[0, 1] == -1
    assert names[roles(PATTERNS["stride"], 40)[30, 7]] == "strided"
    assert names[roles(PATTERNS["sink"], 40)[30, 7]] == "not seen"
    assert names[roles(None, 40)[30, 7]] == "full attention"


def test_pattern(run: Run) -> None:
    drawing = draw("pattern", run)
    axes = panels(drawing.figure)
    shares = [pattern.attended_pairs(TRAINED) / dense_pairs(TRAINED) for pattern in PATTERNS.values()]
    assert [a.get_title() for a in axes] == [
        "full attention\nall pairs",
        f"sink + window\n{100 * shares[0]:.1f} % of the pairs",
        f"sink + window + stride 8\n{100 * shares[1]:.1f} % of the pairs",
    ]
    for panel, pattern in zip(axes, [None, *PATTERNS.values()], strict=True):
        mesh = next(c for c in panel.collections if isinstance(c, QuadMesh))
        assert np.array_equal(mesh.get_array().filled(-1), roles(pattern, 36))
        bottom, top = panel.get_ylim()
        assert bottom > top, "the first query is at the top"
        assert panel.get_xlabel() == "key block of 32 tokens"
    assert axes[0].get_ylabel() == "query block"
    assert legend(drawing.figure) == ["not seen", "full attention", "sink", "local window", "strided"]
    assert len(drawing.data) == 3 * 36 * 37 // 2
    assert set(drawing.data["pattern"]) == {"full attention", "sink", "stride"}


def test_heads_that_see_different_blocks_have_a_panel_each(tmp_path: Path) -> None:
    """The first and the last of four, whose strides of 8 are offset by 0 and 6."""
    path = write_run(tmp_path / "smoke") / "plan.json"
    plan = json.loads(path.read_text("utf-8"))
    plan["settings"]["variants"]["all-sparse"] |= {
        "pattern_name": "staggered",
        "pattern": PATTERNS["stride"].to_dict() | {"staggered": True},
    }
    path.write_text(json.dumps(plan), "utf-8")
    drawing = draw("pattern", open_run("smoke", tmp_path))
    first, last = panels(drawing.figure)[3:]
    staggered = dataclasses.replace(PATTERNS["stride"], staggered=True)
    for axes, head, offset in ((first, 1, 0), (last, 4, 6)):
        share = staggered.attended_pairs(TRAINED, offset) / dense_pairs(TRAINED)
        assert axes.get_title() == f"stride 8, staggered: head {head}\n{100 * share:.1f} % of the pairs"
        mesh = next(c for c in axes.collections if isinstance(c, QuadMesh))
        seen = mesh.get_array().filled(-1)
        assert [list(row) for row in map(staggered.visible_blocks, range(36), [offset] * 36)] == [
            list(np.nonzero(row > 0)[0]) for row in seen
        ]
    assert set(drawing.data[drawing.data["pattern"] == "staggered"]["head"]) == {0, 3}


def full_cells(axes: Axes) -> dict[int, set[int]]:
    """Line -> the layers that are full there."""
    found: dict[int, set[int]] = {}
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        if patch.get_facecolor() == to_rgba(FULL):
            line = round(patch.get_y() + patch.get_height() / 2)
            found.setdefault(line, set()).add(round(patch.get_x() + 0.5))
    return found


def test_layouts(ablation_run: Run) -> None:
    drawing = draw("layouts", ablation_run)
    (axes,) = panels(drawing.figure)
    assert len(axes.patches) == 10 * 6
    names = list(ABLATION)
    assert {names[line]: layers for line, layers in full_cells(axes).items()} == {
        "full": {0, 1, 2, 3, 4, 5},
        "longgen-sink": {2, 3},
        "longgen-stride": {2, 3},
        "middle-1-6": {2},
        "middle-1-2": {1, 2, 3},
        "ends-1-3": {0, 5},
        "bottom-1-3": {0, 1},
        "top-1-3": {4, 5},
        "interleaved-1-3": {1, 4},
    }
    looks = variant_styles(ABLATION)
    assert [text.get_text() for text in axes.get_yticklabels()] == [looks[name].label for name in names]
    assert legend(drawing.figure) == ["full attention", "sparse: sink + window", "sparse: sink + window + stride 8"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first variant is at the top"
    assert axes.get_xlabel() == "layer (0 is next to the embeddings)"
    assert not any("not trained" in text.get_text() for text in axes.texts)


def test_layouts_of_variants_without_results_say_so(run: Run) -> None:
    results = [copy.deepcopy(result) for result in run.results if result.variant != "longgen-stride"]
    for result in results:
        if result.kind != "plan":
            result.records[:] = [each for each in result.records if each.get("variant") != "longgen-stride"]
    (axes,) = panels(draw("layouts", Run("smoke", run.folder, results)).figure)
    said = [text.get_text() for text in axes.texts]
    assert said == ["6 of 6 full", "2 of 6 full", "2 of 6 full \u00b7 planned, not trained in this run", "0 of 6 full"]
    (axes,) = panels(draw("layouts", Run("smoke", run.folder, [r for r in run.results if r.kind == "plan"])).figure)
    assert not any("not trained" in text.get_text() for text in axes.texts), "a plan alone is no run yet"


def test_patterns_have_colours_of_their_own(run: Run) -> None:
    run = copy.deepcopy(run)
    staggered = dataclasses.replace(PATTERNS["stride"], staggered=True)
    run.plan.variants["all-sparse"] = dataclasses.replace(run.plan.variants["all-sparse"], pattern=staggered)
    figure = draw("layouts", run).figure
    colors = {to_hex(handle.get_facecolor()) for handle in figure.legends[0].get_patches()}
    assert len(colors) == len(legend(figure)) == 4


def test_a_layout_by_head_is_drawn_head_by_head(run: Run) -> None:
    layout, run = Layout(((True, False, False),) * 5 + (True,)), copy.deepcopy(run)
    run.plan.variants["longgen-sink"] = dataclasses.replace(run.plan.variants["longgen-sink"], layout=layout)
    drawing = draw("layouts", run)
    (axes,) = panels(drawing.figure)
    cells = [patch for patch in axes.patches if 0.5 < patch.get_y() + patch.get_height() / 2 < 1.5]  # the second line
    full = [patch for patch in cells if patch.get_facecolor() == to_rgba(FULL)]
    assert (len(cells), len(full)) == (5 * 3 + 1, 5 + 1)
    assert all(patch.get_y() == pytest.approx(1 - 0.38) for patch in full), "the first head stands above"
    assert "2.67 of 6 full" in [text.get_text() for text in axes.texts]
    rows = drawing.data[drawing.data["variant"] == "longgen-sink"]
    assert list(rows["attention"]) == ["full in 1 of 3 heads"] * 5 + ["full"]


# ---------------------------------------------------------------- quality
def test_needle(run: Run) -> None:
    drawing = draw("needle", run)
    axes = panels(drawing.figure)
    assert [a.get_title() for a in axes] == list(LABELS.values())
    for number, panel in enumerate(axes):
        mesh = next(c for c in panel.collections if isinstance(c, QuadMesh))
        expected = [[exact(number, 0, length, depth) for length in LENGTHS] for depth in DEPTHS]
        assert mesh.get_array().tolist() == pytest.approx(np.array(expected))
        assert mesh.get_clim() == (0, 1), "one colour scale for all panels"
        corner = mesh.get_coordinates()[0, 0]
        assert tuple(corner) == (-0.5, -0.5)
        bottom, top = panel.get_ylim()
        assert bottom > top, "row 0, depth 0, is at the top"
        if number == 0:  # the others share it
            assert [t.get_text() for t in panel.get_yticklabels()] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
        assert [t.get_text() for t in panel.get_xticklabels()] == ["256", "512", "1K", "2K"]
        assert mesh.get_cmap().name == "RdYlGn"
        assert vertical_lines(panel) == [0.5, 3.5], "after the base length, and after the trained length"
        values = {(t.get_position()): t.get_text() for t in panel.texts if "." in t.get_text()}
        assert values[(3, 0)] == f"{exact(number, 0, 2048, 0.0):.2f}"
        assert values[(0, 4)] == f"{exact(number, 0, 256, 1.0):.2f}"
    colorbar = next(a for a in drawing.figure.axes if a.get_label() == "<colorbar>")
    assert colorbar.get_ylabel() == "exact match"
    assert "20 samples per cell" in drawing.figure.texts[1].get_text()
    worst = drawing.data.set_index(["variant", "length", "depth"]).loc[("all-sparse", 2048, 0.0)]
    assert worst["exact"] == exact(3, 0, 2048, 0.0)


def test_heat_maps_for_those_to_whom_red_and_green_look_alike(run: Run) -> None:
    with heat_colors(RED_BLUE):
        mesh = panels(draw("needle", run).figure)[0].collections[0]
    assert mesh.get_cmap().name == "RdYlBu"


def test_columns_of_heat_maps_have_labels_below_their_last_panel(ablation_run: Run) -> None:
    axes = panels(draw("needle", ablation_run).figure)
    columns = {panel.get_subplotspec().colspan.start for panel in axes}
    labelled = [panel for panel in axes if panel.get_xlabel()]
    assert {panel.get_subplotspec().colspan.start for panel in labelled} == columns
    assert len(labelled) == len(columns)


def test_needle_leaves_a_gap_where_nothing_was_evaluated(run: Run) -> None:
    results = []
    for result in run.results:
        kept = result.records
        if result.kind == "benchmark" and result.variant == "full":
            kept = [r for r in kept if (r["length"], r["depth"]) != (512, 0.5)]
        results.append(type(result)(result.kind, result.run, kept, {}, result.variant, result.settings))
    mesh = panels(draw("needle", Run("smoke", run.folder, results)).figure)[0].collections[0]
    assert mesh.get_array().mask.tolist()[2] == [False, True, False, False]


def test_retrieval(run: Run) -> None:
    drawing = draw("retrieval", run)
    axes = panels(drawing.figure)
    assert [a.get_title() for a in axes] == ["needle in a haystack", "multi-key needle", "variable tracking"]
    table = drawing.data.set_index(["variant", "task", "length"]).sort_index()
    for task_number, (panel, task) in enumerate(zip(axes, TASKS, strict=True)):
        bars = errorbars(panel)
        assert list(bars) == list(LABELS.values())
        for number, variant in enumerate(DEFAULTS):
            container = bars[LABELS[variant]]
            if task == "needle":
                expected = [np.mean([exact(number, 0, length, depth) for depth in DEPTHS]) for length in LENGTHS]
            else:
                expected = [exact(number, task_number, length, 0.5) for length in LENGTHS]
            assert container.lines[0].get_ydata() == pytest.approx(expected)
            places = np.log2(container.lines[0].get_xdata())
            assert places == pytest.approx(np.arange(len(LENGTHS)), abs=0.4), "evenly, each in its band"
            rows = table.loc[(variant, task)]
            assert ends(container) == pytest.approx(rows[["exact_low", "exact_high"]].to_numpy())
            assert container.lines[0].get_color() == variant_styles(DEFAULTS)[variant].color
        assert [x for x in vertical_lines(panel) if x] == [2 ** LENGTHS.index(BASE), 2 ** LENGTHS.index(TRAINED)]
        assert [text.get_text() for text in panel.get_xticklabels()] == ["256", "512", "1K", "2K"]
        assert panel.get_xlabel() == "context length (tokens)"
    assert axes[0].get_ylabel() == "exact match"
    assert legend(drawing.figure) == list(LABELS.values())


def nll_of(number: int) -> np.ndarray:
    starts = np.arange(0, TRAINED, 128)
    return 1.15 + 0.4 * np.exp(-starts / 200) + 0.017 * number * (1 + starts / TRAINED)


@pytest.mark.parametrize("which", ["run", "ablation_run"])
def test_perplexity_and_its_difference_to_full_attention(which: str, request: pytest.FixtureRequest) -> None:
    run = request.getfixturevalue(which)
    names = run.variants
    drawing = draw("perplexity", run)
    left, right = panels(drawing.figure)
    looks = variant_styles(names)
    lines = {line.get_label(): line for line in left.lines if len(line.get_xdata()) > 2}
    assert list(lines) == [looks[name].label for name in names]
    differences = [line for line in right.lines if len(line.get_xdata()) > 2]
    for number, name in enumerate(names):
        line = lines[looks[name].label]
        assert line.get_xdata() == pytest.approx(np.arange(0, TRAINED, 128) + 64)
        assert line.get_ydata() == pytest.approx(np.exp(nll_of(number)))
        ratio = np.exp(nll_of(number)) / np.exp(nll_of(0))
        assert differences[number].get_ydata() == pytest.approx(100 * (ratio - 1), abs=1e-9)
        assert differences[number].get_color() == line.get_color() == looks[name].color
    for axes in (left, right):
        assert vertical_lines(axes) == [BASE]
        assert axes.get_xlabel() == "position in the context (tokens)"
    assert (left.get_ylabel(), right.get_ylabel()) == ("perplexity", "difference of perplexity")
    (band,) = left.collections
    rows = run.frame("perplexity")
    rows = rows[rows["variant"] == "full"]
    expected = np.exp(rows["nll_low"].min()), np.exp(rows["nll_high"].max())
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx(expected), "of full attention alone"
    assert "its interval is not in the results" in " ".join(drawing.figure.texts[1].get_text().split())
    assert drawing.data["perplexity_high"].tolist() == pytest.approx(np.exp(drawing.data["nll_high"]).tolist())
    assert legend(drawing.figure) == list(lines)


def test_perplexity_without_full_attention_is_compared_with_nothing(run: Run) -> None:
    results = [result for result in run.results if (result.kind, result.variant) != ("perplexity", "full")]
    drawing = draw("perplexity", Run("smoke", run.folder, results))
    assert len(panels(drawing.figure)) == 1
    assert drawing.data["perplexity_over_full"].isna().all()


def test_perplexity_goes_logarithmic_when_a_variant_breaks_down(run: Run) -> None:
    results = [
        type(r)(r.kind, r.run, [x | {"perplexity": x["perplexity"] * 50} for x in r.records], {}, r.variant, r.settings)
        if r.kind == "perplexity" and r.variant == "all-sparse"
        else r
        for r in run.results
    ]
    axes = panels(draw("perplexity", Run("smoke", run.folder, results)).figure)[0]
    assert (axes.get_yscale(), axes.get_ylabel()) == ("log", "perplexity (log scale)")


# ---------------------------------------------------------------- training
def test_training(run: Run) -> None:
    drawing = draw("training", run)
    loss_base, loss_extension, accuracy_base, accuracy_extension = panels(drawing.figure)
    frame = run.frame("training")
    base = frame[frame["stage"] == "base"]
    raw, smoothed = (line for line in loss_base.lines if len(line.get_xdata()) > 2)
    assert raw.get_ydata() == pytest.approx(base["loss"].to_numpy())
    assert smoothed.get_ydata() == pytest.approx(smooth(base["loss"]).to_numpy())
    assert smoothed.get_xdata() == pytest.approx(base["tokens"].to_numpy() / 1e6)
    assert vertical_lines(loss_base) == [pytest.approx(150 * 64 * 40 / 1e6)], "where the second phase begins"
    assert [text.get_text() for text in loss_base.texts] == ["64", "256"]
    extension = {line.get_label(): line.get_ydata() for line in loss_extension.lines}
    for variant in DEFAULTS:
        rows = frame[(frame["variant"] == variant) & (frame["stage"] == "extension")]
        assert extension[LABELS[variant]] == pytest.approx(rows["loss"].to_numpy()), "short curves are not smoothed"
        shown = next(line for line in accuracy_extension.lines if line.get_label() == LABELS[variant])
        assert shown.get_ydata() == pytest.approx(rows["answer_accuracy"].to_numpy())
    assert len(accuracy_base.lines[0].get_ydata()) == base["answer_accuracy"].notna().sum()
    assert legend(drawing.figure) == ["base model", *LABELS.values(), "pale: loss before the moving mean"]
    named = [line for line in loss_extension.lines if line.get_label() in LABELS.values()]
    assert len({line.get_marker() for line in named}) == len({line.get_markevery() for line in named}) == len(DEFAULTS)
    assert loss_base.get_ylabel() == "loss (nats per token)"
    assert accuracy_base.get_xlabel() == "tokens of this stage (millions)"
