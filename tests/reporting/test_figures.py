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
from matplotlib.colors import to_rgba
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
from longgen.reporting.style import FULL, paper_style, variant_styles
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
        f"sink + window\n{shares[0]:.1%} of the pairs",
        f"sink + window + stride 8\n{shares[1]:.1%} of the pairs",
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
        assert axes.get_title() == f"stride 8, staggered: head {head}\n{share:.1%} of the pairs"
        mesh = next(c for c in axes.collections if isinstance(c, QuadMesh))
        seen = mesh.get_array().filled(-1)
        assert [list(row) for row in map(staggered.visible_blocks, range(36), [offset] * 36)] == [
            list(np.nonzero(row > 0)[0]) for row in seen
        ]
    assert set(drawing.data[drawing.data["pattern"] == "staggered"]["head"]) == {0, 3}


def test_layouts(ablation_run: Run) -> None:
    drawing = draw("layouts", ablation_run)
    (axes,) = panels(drawing.figure)
    stacks: dict[int, set[int]] = {}
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        if patch.get_facecolor() == to_rgba(FULL):
            column = round(patch.get_x() + patch.get_width() / 2)
            stacks.setdefault(column, set()).add(round(patch.get_y() + 0.5))
    assert len(axes.patches) == 10 * 6
    names = list(ABLATION)
    found = {names[column]: layers for column, layers in stacks.items()}
    assert found == {
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
    assert [text.get_text().replace("\n", " ") for text in axes.get_xticklabels()][:4] == list(LABELS.values())
    assert legend(drawing.figure) == ["full attention", "sparse: sink + window", "sparse: sink + window + stride 8"]
    assert axes.get_ylim()[0] < axes.get_ylim()[1], "layer 0 is at the bottom"


def test_a_layout_by_head_is_drawn_head_by_head(run: Run) -> None:
    layout, run = Layout(((True, False, False),) * 5 + (True,)), copy.deepcopy(run)
    run.plan.variants["longgen-sink"] = dataclasses.replace(run.plan.variants["longgen-sink"], layout=layout)
    drawing = draw("layouts", run)
    (axes,) = panels(drawing.figure)
    cells = [patch for patch in axes.patches if abs(patch.get_x() + 0.36 - 1) < 0.72]  # the second column
    full = [patch for patch in cells if patch.get_facecolor() == to_rgba(FULL)]
    assert (len(cells), len(full)) == (5 * 3 + 1, 5 + 1)
    assert all(patch.get_x() == pytest.approx(1 - 0.36) for patch in full), "the first head stands left"
    assert "2.67 of 6" in [text.get_text() for text in axes.texts]
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
            assert [t.get_text() for t in panel.get_yticklabels()] == ["0%", "25%", "50%", "75%", "100%"]
        assert [t.get_text() for t in panel.get_xticklabels()] == ["256", "512", "1K", "2K"]
        assert vertical_lines(panel) == [0.5, 3.5], "after the base length, and after the trained length"
        values = {(t.get_position()): t.get_text() for t in panel.texts if "." in t.get_text()}
        assert values[(3, 0)] == f"{exact(number, 0, 2048, 0.0):.2f}"
        assert values[(0, 4)] == f"{exact(number, 0, 256, 1.0):.2f}"
    colorbar = next(a for a in drawing.figure.axes if a.get_label() == "<colorbar>")
    assert colorbar.get_ylabel() == "exact match"
    assert "20 samples per cell" in drawing.figure.texts[1].get_text()
    worst = drawing.data.set_index(["variant", "length", "depth"]).loc[("all-sparse", 2048, 0.0)]
    assert worst["exact"] == exact(3, 0, 2048, 0.0)


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
            assert container.lines[0].get_xdata() == pytest.approx(LENGTHS, rel=0.1)
            rows = table.loc[(variant, task)]
            assert ends(container) == pytest.approx(rows[["exact_low", "exact_high"]].to_numpy())
            assert container.lines[0].get_color() == variant_styles(DEFAULTS)[variant].color
        assert vertical_lines(panel) == [BASE, TRAINED]
        assert panel.get_xlabel() == "context length (tokens)"
    assert axes[0].get_ylabel() == "exact match"
    assert legend(drawing.figure) == list(LABELS.values())


def test_perplexity(run: Run) -> None:
    drawing = draw("perplexity", run)
    (axes,) = panels(drawing.figure)
    lines = {line.get_label(): line for line in axes.lines if len(line.get_xdata()) > 2}
    assert list(lines) == list(LABELS.values())
    for number, variant in enumerate(DEFAULTS):
        line = lines[LABELS[variant]]
        starts = np.arange(0, TRAINED, 128)
        nll = 1.15 + 0.4 * np.exp(-starts / 200) + 0.017 * number * (1 + starts / TRAINED)
        assert line.get_xdata() == pytest.approx(starts + 64)
        assert line.get_ydata() == pytest.approx(np.exp(nll))
    assert vertical_lines(axes) == [BASE]
    assert axes.get_ylabel() == "perplexity"
    assert axes.get_xlabel() == "position in the context (tokens)"
    assert drawing.data["perplexity_high"].tolist() == pytest.approx(np.exp(drawing.data["nll_high"]).tolist())


def test_perplexity_of_many_variants_has_a_panel_each_beside_full_attention(ablation_run: Run) -> None:
    axes = panels(draw("perplexity", ablation_run).figure)
    looks = variant_styles(ABLATION)
    assert [panel.get_title() for panel in axes] == [looks[name].label for name in ABLATION if name != "full"]
    frame = ablation_run.frame("perplexity")
    for panel, name in zip(axes, list(ABLATION)[1:], strict=True):
        lines = {line.get_label(): line for line in panel.lines if len(line.get_xdata()) > 2}
        assert list(lines) == ["full attention", looks[name].label]
        for shown in ("full", name):
            expected = frame.loc[frame["variant"] == shown, "perplexity"].to_numpy()
            assert lines[looks[shown].label].get_ydata() == pytest.approx(expected)
        assert len(panel.collections) == 2, "a band each"


def test_the_bands_of_perplexity_are_the_intervals(run: Run) -> None:
    (axes,) = panels(draw("perplexity", run).figure)
    frame = run.frame("perplexity")
    for band, name in zip(axes.collections, DEFAULTS, strict=True):
        rows = frame[frame["variant"] == name]
        (outline,) = band.get_paths()
        expected = np.exp(rows["nll_low"].min()), np.exp(rows["nll_high"].max())
        assert (outline.vertices[:, 1].min(), outline.vertices[:, 1].max()) == pytest.approx(expected)


def test_perplexity_goes_logarithmic_when_a_variant_breaks_down(run: Run) -> None:
    results = [
        type(r)(r.kind, r.run, [x | {"perplexity": x["perplexity"] * 50} for x in r.records], {}, r.variant, r.settings)
        if r.kind == "perplexity" and r.variant == "all-sparse"
        else r
        for r in run.results
    ]
    (axes,) = panels(draw("perplexity", Run("smoke", run.folder, results)).figure)
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
    assert legend(drawing.figure) == ["base model", *LABELS.values()]
    assert loss_base.get_ylabel() == "loss (nats per token)"
    assert accuracy_base.get_xlabel() == "tokens of this stage (millions)"
