"""What the figures of ablations and of KV reductions draw, value by value, against the made-up run."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from longgen.reporting.drawing import settle_layout
from longgen.reporting.figures.needle_reductions import FULL, HYBRID
from longgen.reporting.figures.ratio_placement_pattern import COLUMNS
from longgen.reporting.labels import LabelledPoint
from longgen.reporting.measures import pareto_front
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import FULL as FULL_COLOR
from longgen.reporting.style import new_figure, paper_style, variant_styles
from longgen.reporting.trade_off import FRONT, TradeOffPoint, axis_break, draw_points, score_axis, stretch_note
from tests.reporting.fake_reductions import FOUND, KEPT, SAMPLES, write_reductions
from tests.reporting.fake_run import ABLATION, DEPTHS, TRAINED, exact, kv_fraction, speedup, write_run
from tests.reporting.test_figures import draw, ends, errorbars, legend, panels, vertical_lines

COMPARED = {
    "ratio": ["full", "middle-1-2", "longgen-sink", "middle-1-6", "all-sparse"],
    "placement": ["full", "longgen-sink", "ends-1-3", "bottom-1-3", "top-1-3", "interleaved-1-3"],
    "pattern": ["full", "longgen-sink", "longgen-stride"],
}


def found(variant: str) -> float:
    """Needles found at the trained length, over all depths."""
    number = list(ABLATION).index(variant)
    return float(np.mean([exact(number, 0, TRAINED, depth) for depth in DEPTHS]))


def last_nll(variant: str) -> float:
    """Of the last bin of positions."""
    start = TRAINED - 128
    return 1.15 + 0.4 * math.exp(-start / 200) + 0.017 * list(ABLATION).index(variant) * (1 + start / TRAINED)


def test_ratio_placement_and_pattern_are_compared_each_with_full_and_reference(ablation_run: Run) -> None:
    drawing = draw("ratio_placement_pattern", ablation_run)
    groups = {name: list(rows["variant"]) for name, rows in drawing.data.groupby("comparison", sort=False)}
    assert groups == COMPARED
    grid = np.array(panels(drawing.figure)).reshape(len(COMPARED), len(COLUMNS))
    looks = variant_styles(ABLATION)
    for line, (comparison, names) in zip(grid, COMPARED.items(), strict=True):
        assert line[0].get_ylabel() == comparison
        bottom, top = line[0].get_ylim()
        assert bottom > top, "the first variant is at the top"
        drawn = [errorbars(axes) for axes in line]
        for place, name in enumerate(names):
            number = list(ABLATION).index(name)
            nll, ratio = last_nll(name), speedup(number, 0, TRAINED)
            values = found(name), math.exp(nll), 100 * kv_fraction(name, TRAINED), ratio
            for bars, value in zip(drawn, values, strict=True):
                assert bars[looks[name].label].lines[0].get_xydata()[0] == pytest.approx([value, place])
                assert bars[looks[name].label].lines[0].get_color() == looks[name].color
            row = drawing.data[drawing.data["variant"] == name].iloc[0]
            needle, perplexity, cache, prefill = (bars[looks[name].label] for bars in drawn)
            assert ends(needle, axis=0)[0] == pytest.approx([row["needle_exact_low"], row["needle_exact_high"]])
            assert ends(perplexity, axis=0)[0] == pytest.approx([math.exp(nll - 0.02), math.exp(nll + 0.025)])
            assert not cache.has_xerr, "bytes are exact"
            if name != "full":
                assert ends(prefill, axis=0)[0] == pytest.approx([ratio - 0.06, ratio + 0.072])
        assert vertical_lines(line[3]) == [pytest.approx(speedup(1, 0, TRAINED))], "the reference, to compare with"
    labels = [[text.get_text() for text in line[0].get_yticklabels()] for line in grid]
    assert labels[0][:3] == ["full attention: 6/6 full", "middle 1/2: 3/6 full", "LongGen (sink): 2/6 full"]
    assert labels[1][1:3] == ["LongGen (sink): middle", "ends 1/3"]
    assert labels[2][2] == "LongGen (stride)"
    assert [axes.get_xlabel().split("\n") for axes in grid[-1]] == [
        ["needle exact match", "(higher is better)"],
        ["perplexity", "(lower is better)"],
        ["KV cache (% of full)", "(lower is better)"],
        ["prefill speed-up (\u00d7)", "(higher is better)"],
    ]
    assert [text.get_text() for text in grid[-1, 2].get_xticklabels()] == ["0", "50", "100"]
    assert 1 in grid[-1, 3].get_xticks(), "full attention, to which speed-ups compare"
    assert legend(drawing.figure) == ["LongGen (sink): the reference"]


def test_a_cache_that_nobody_measured_is_planned_hollow_and_other_gaps_are_said(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "smoke", ABLATION)
    for path, key in (("profile/memory.json", "memory"), ("benchmarks/ends-1-3/perplexity.json", "perplexity")):
        value = json.loads((folder / path).read_text("utf-8"))
        if key == "memory":
            value["records"] = [record for record in value["records"] if record["variant"] != "ends-1-3"]
            (folder / path).write_text(json.dumps(value), "utf-8")
        else:
            (folder / path).unlink()
    drawing = draw("ratio_placement_pattern", open_run("smoke", tmp_path))
    rows = drawing.data[drawing.data["variant"] == "ends-1-3"]
    assert rows["kv_fraction"].isna().all(), "what is planned is never among what was measured"
    assert rows["kv_fraction_planned"].tolist() == [pytest.approx(kv_fraction("ends-1-3", TRAINED), abs=1e-3)]
    assert drawing.data.loc[drawing.data["variant"] != "ends-1-3", "kv_fraction_planned"].isna().all()
    grid = np.array(panels(drawing.figure)).reshape(len(COMPARED), len(COLUMNS))
    place = COMPARED["placement"].index("ends-1-3")
    (hollow,) = [line for line in grid[1, 2].lines if line.get_markerfacecolor() == "white"]
    assert hollow.get_xydata()[0] == pytest.approx([100 * rows["kv_fraction_planned"].iloc[0], place])
    said = [(text.get_text(), text.get_position()[1]) for text in grid[1, 1].texts]
    assert said == [("not measured", place)]
    assert "hollow: planned, not measured" in legend(drawing.figure)
    assert "kv_fraction_planned" not in draw("ratio_placement_pattern", complete(tmp_path)).data


def complete(folder: Path) -> Run:
    write_run(folder / "whole", ABLATION)
    return open_run("whole", folder)


def test_what_a_run_has_no_variant_of_is_not_compared_and_what_it_did_not_measure_is_said(tmp_path: Path) -> None:
    (write_run(tmp_path / "smoke") / "profile/speed.json").unlink()
    drawing = draw("ratio_placement_pattern", open_run("smoke", tmp_path))
    assert list(drawing.data["comparison"].drop_duplicates()) == ["ratio", "pattern"]
    assert drawing.data["prefill_speedup"].isna().all()
    axes = panels(drawing.figure)
    assert ["not measured" in [text.get_text() for text in panel.texts] for panel in axes] == [
        False,
        False,
        False,
        True,
    ] * 2


# ---------------------------------------------------------------- KV reductions
def test_needles_by_depth_of_hybrid_full_and_every_method(tmp_path: Path) -> None:
    write_reductions(write_run(tmp_path / "smoke"))
    drawing = draw("needle_reductions", open_run("smoke", tmp_path))
    axes = panels(drawing.figure)
    models = [HYBRID, FULL, "snapkv", "tova"]  # in the order of all tables and figures
    for number, (panel, budget_of) in enumerate(zip(axes, FOUND, strict=True), start=1):
        mesh = next(c for c in panel.collections if isinstance(c, QuadMesh))
        methods = FOUND[budget_of]["needle"]
        columns = [
            *([exact(which, 0, TRAINED, depth) for depth in DEPTHS] for which in (number, 0)),
            *([count / SAMPLES for count in methods[name]] for name in models[2:]),
        ]
        assert mesh.get_array().tolist() == pytest.approx(np.array(columns).T)
        assert mesh.get_clim() == (0, 1)
        bottom, top = panel.get_ylim()
        assert bottom > top, "depth 0 is at the top"
        name = {"longgen-sink": "LongGen (sink)", "longgen-stride": "LongGen (stride)"}[budget_of]
        assert panel.get_title() == f"bytes of {name}, {100 * KEPT[budget_of]:.0f} % of the KV cache, 2K tokens"
        assert [text.get_text() for text in panel.get_yticklabels()] == ["0 %", "25 %", "50 %", "75 %", "100 %"]
    labels = [text.get_text().replace("\n", " ") for text in axes[-1].get_xticklabels()]
    assert labels == ["the hybrid", "full, not reduced", "SnapKV", "TOVA"]
    assert "4 to 20 samples per cell" in drawing.figure.texts[1].get_text()
    row = drawing.data.set_index(["budget_of", "model", "depth"]).loc[("longgen-stride", "tova", 1.0)]
    assert (row["exact"], row["n"], row["kv_fraction"]) == (1.0, SAMPLES, KEPT["longgen-stride"])
    assert row["exact_low"] < 1 == row["exact_high"]


def test_a_hybrid_that_was_not_asked_leaves_its_column_empty(tmp_path: Path) -> None:
    folder = write_reductions(write_run(tmp_path / "smoke"))
    (folder / "benchmarks/longgen-stride/scores.json").unlink()
    drawing = draw("needle_reductions", open_run("smoke", tmp_path))
    masks = [panel.collections[0].get_array().mask[:, 0].all() for panel in panels(drawing.figure)]
    assert masks == [False, True]
    asked = set(zip(drawing.data["budget_of"], drawing.data["model"], strict=True))
    assert ("longgen-stride", FULL) in asked
    assert ("longgen-stride", HYBRID) not in asked


# ---------------------------------------------------------------- Pareto
def test_pareto(tmp_path: Path) -> None:
    write_reductions(write_run(tmp_path / "smoke", ABLATION))
    drawing = draw("pareto", open_run("smoke", tmp_path))
    memory, time, reduced_axes = panels(drawing.figure)
    rows = drawing.data.to_dict("records")
    assert len(rows) == len(ABLATION) + 4
    drawn = [np.array([bar.lines[0].get_xydata()[0] for bar in axes.containers]) for axes in (memory, time)]
    measured = [row for row in rows if row["what"] == "trained"]
    with_front = [row for row in rows if row["what"] == "trained" or row["kv_fraction_front"]]
    for points, shown, cost in ((drawn[0], with_front, "kv_fraction"), (drawn[1], measured, "prefill_time")):
        assert points[:, 1].tolist() == [row["needle_exact"] for row in shown], "reductions have no time"
        assert points[:, 0] == pytest.approx([row[cost] for row in shown], abs=0.05), "at most set aside"
    assert_apart(drawing.figure, memory, drawn[0])
    for number, row in enumerate(measured):
        assert row["variant"] == list(ABLATION)[number]
        quality = np.mean([exact(number, 0, TRAINED, depth) for depth in DEPTHS])
        costs = kv_fraction(row["variant"], TRAINED), 1 / speedup(number, 0, TRAINED)
        assert (row["needle_exact"], row["kv_fraction"], row["prefill_time"]) == pytest.approx((quality, *costs))
        if number:
            ratio = speedup(number, 0, TRAINED)
            aside = drawn[1][number, 0] - 1 / ratio
            interval = [1 / (ratio + 0.072) + aside, 1 / (ratio - 0.06) + aside]
            assert ends(time.containers[number], axis=0)[0] == pytest.approx(interval)
    reduced = {(row["budget_of"], row["method"]): row["needle_exact"] for row in rows[len(ABLATION) :]}
    assert reduced["longgen-sink", "snapkv"] == 0.6
    front = {row["variant"] for row in measured if row["kv_fraction_front"]}
    assert front == {"full", "longgen-sink", "middle-1-6", "middle-1-2", "all-sparse"}
    best = [(row["method"], row["budget_of"]) for row in rows[len(ABLATION) :] if row["kv_fraction_front"]]
    assert best == [("snapkv", "longgen-sink")]
    for axes, cost in ((memory, "kv_fraction"), (time, "prefill_time")):
        (step,) = [line for line in axes.lines if line.get_color() == FRONT]
        on_front = drawing.data[drawing.data[f"{cost}_front"]].sort_values(cost)
        corners = on_front[[cost, "needle_exact"]].to_numpy(float)
        assert step.get_xydata()[::2] == pytest.approx(corners)
        between = np.column_stack([corners[1:, 0], corners[:-1, 1]])
        assert step.get_xydata()[1::2] == pytest.approx(between), "up to the next cost nothing better is to be had"
        assert on_front["needle_exact"].is_monotonic_increasing
    looks = variant_styles(ABLATION)
    for row, bar in zip(with_front, memory.containers, strict=True):
        marker = bar.lines[0]
        if row["what"] == "trained":
            look = looks[row["variant"]]
            assert (marker.get_color(), marker.get_marker()) == (look.color, look.marker), "as in every other figure"
        assert (marker.get_markerfacecolor() == "white") == (row["what"] != "trained")
        assert (marker.get_markersize() == 8) == (row["variant"] == "longgen-sink" and row["what"] == "trained")
    assert_reductions(reduced_axes, rows)
    variants = [looks[name].label for name in ABLATION]
    assert sorted(text.get_text() for text in memory.texts) == sorted([*variants, "SnapKV"]), "each once"
    assert sorted(text.get_text() for text in time.texts) == sorted(variants)
    assert legend(drawing.figure) == ["Pareto front", "hollow: full attention, KV reduced at inference"]


def assert_reductions(axes: Axes, rows: list[dict]) -> None:
    """That the panel of reductions has each in the band of its budget, beside the hybrid whose bytes it keeps."""
    assert [text.get_text().split("\n")[0] for text in axes.get_xticklabels()] == [
        "bytes of LongGen (sink)",
        "bytes of LongGen (stride)",
    ]
    scores = {(row["method"], row["budget_of"]): row["needle_exact"] for row in rows if row["what"] != "trained"}
    hybrids = {row["variant"]: row["needle_exact"] for row in rows if row["what"] == "trained"}
    points = {bar.get_label(): [] for bar in axes.containers}
    for bar in axes.containers:
        points[bar.get_label()].append(bar.lines[0].get_xydata()[0])
    budgets = ("longgen-sink", "longgen-stride")
    for method, label in (("snapkv", "SnapKV"), ("tova", "TOVA")):
        for place, (budget_of, (x, y)) in enumerate(zip(budgets, points[label], strict=True)):
            assert abs(x - place) < 0.4
            assert y == scores[method, budget_of]
    assert points["LongGen (sink)"][0][1] == hybrids["longgen-sink"]
    assert abs(points["LongGen (stride)"][0][0] - 1) < 0.4
    markers = {bar.get_label(): bar.lines[0].get_marker() for bar in axes.containers}
    assert markers["SnapKV"] != markers["TOVA"], "a marker per method"
    assert [line.get_ydata()[0] for line in axes.lines if line.get_color() == FULL_COLOR] == [hybrids["full"]]
    named = sorted(text.get_text() for text in axes.texts)
    assert named == sorted(["full attention", "LongGen (sink)", "LongGen (stride)", "SnapKV", "TOVA"]), "each once"


def assert_apart(figure: Figure, axes: Axes, points: np.ndarray) -> None:
    """That no marker covers another one: 4 points between their centres at least."""
    places = axes.transData.transform(points) * 72 / figure.dpi
    distances = np.abs(places[:, None] - places).max(axis=-1) + 1e3 * np.eye(len(places))
    assert distances.min() > 4


def test_points_at_one_place_stand_side_by_side_around_it() -> None:
    with paper_style():
        figure = new_figure("title", "note", height=3)
        axes = figure.subplots()
        axes.set_xlim(0, 1)
        figure.draw_without_rendering()
        look = variant_styles(["full"])["full"]
        places = [(0.5, 0.3), (0.5, 0.3), (0.5, 0.305), (0.9, 0.3)]
        points = [LabelledPoint(x, y, (x - 0.1, x + 0.1), (y, y), look) for x, y in places]
        placed = draw_points(axes, [TradeOffPoint(point) for point in points])
        settle_layout(figure)
    found = np.array([(each.point.x, each.point.y) for each in placed])
    assert found[:3, 0].mean() == pytest.approx(0.5)
    assert found[:, 1].tolist() == [y for _, y in places], "scores are never moved"
    assert found[3].tolist() == [0.9, 0.3], "nor what stands alone"
    assert_apart(figure, axes, found)
    assert [np.mean(each.point.x_ends) for each in placed] == pytest.approx(found[:, 0]), "with their intervals"


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.95, 0.97, 1.0, 0.2], 0.9),
        ([0.85, 0.83, 0.91, 0.2], 0.8),
        ([0.95, 0.97, 1.0], None),  # nothing is below
        ([0.1, 0.2, 0.97], None),  # most are below
        ([0.95, 0.97, 0.85], None),  # hardly below
        ([], None),
    ],
)
def test_the_axis_is_stretched_where_most_scores_are(scores: list[float], expected: float | None) -> None:
    assert axis_break(scores) == expected


def test_a_stretched_axis_keeps_every_score_in_its_place_and_says_so() -> None:
    axes = Figure().subplots()
    score_axis(axes, 0.9)
    ticks = [0, 0.2, 0.4, 0.6, 0.9, 0.92, 1.0]
    heights = axes.transData.transform([(0, tick) for tick in ticks])[:, 1]
    assert (np.diff(heights) > 0).all()
    assert heights[-1] - heights[-2] > heights[1] - heights[0], "0.08 at the top has more room than 0.2 below"
    inverse = axes.transData.inverted().transform([(0, height) for height in heights])[:, 1]
    assert inverse == pytest.approx(ticks)
    assert stretch_note(0.9) == ["shaded: the axis is stretched above 0.9"]
    assert stretch_note(None) == []


def test_pareto_front() -> None:
    cost, quality = np.array([1.0, 0.4, 0.4, 0.6, 0.1]), np.array([0.9, 0.8, 0.7, 0.75, 0.2])
    assert pareto_front(cost, quality).tolist() == [4, 1, 0]
