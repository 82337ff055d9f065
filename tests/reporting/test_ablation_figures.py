"""What the figures of ablations and of KV reductions draw, value by value, against the made-up run."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import QuadMesh

from longgen.reporting.figures.needle_reductions import FULL, HYBRID
from longgen.reporting.figures.ratio_placement_pattern import COLUMNS
from longgen.reporting.measures import pareto_front
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import variant_styles
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
        ["KV cache, of full", "(lower is better)"],
        ["prefill speed-up", "(higher is better)"],
    ]
    assert [text.get_text() for text in grid[-1, 2].get_xticklabels()] == ["0 %", "50 %", "100 %"]
    assert legend(drawing.figure) == ["LongGen (sink): the reference"]


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
    models = [HYBRID, FULL, "snapkv", "tova"]  # of both budgets together snapkv finds more
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
        assert [text.get_text() for text in panel.get_yticklabels()] == ["0%", "25%", "50%", "75%", "100%"]
    labels = [text.get_text().replace("\n", " ") for text in axes[-1].get_xticklabels()]
    assert labels == ["the hybrid", "full, not reduced", "snapkv", "tova"]
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
    memory, time = panels(drawing.figure)
    rows = drawing.data.to_dict("records")
    assert len(rows) == len(ABLATION) + 4
    drawn = [[bar.lines[0].get_xydata()[0].tolist() for bar in axes.containers] for axes in (memory, time)]
    assert drawn[0] == [[row["kv_fraction"], row["needle_exact"]] for row in rows]
    measured = [row for row in rows if row["what"] == "trained"]
    assert drawn[1] == [[row["prefill_time"], row["needle_exact"]] for row in measured], "reductions have no time"
    for number, row in enumerate(measured):
        assert row["variant"] == list(ABLATION)[number]
        quality = np.mean([exact(number, 0, TRAINED, depth) for depth in DEPTHS])
        costs = kv_fraction(row["variant"], TRAINED), 1 / speedup(number, 0, TRAINED)
        assert (row["needle_exact"], row["kv_fraction"], row["prefill_time"]) == pytest.approx((quality, *costs))
        if number:
            ratio = speedup(number, 0, TRAINED)
            assert ends(time.containers[number], axis=0)[0] == pytest.approx([1 / (ratio + 0.072), 1 / (ratio - 0.06)])
    reduced = {(row["budget_of"], row["method"]): row["needle_exact"] for row in rows[len(ABLATION) :]}
    assert reduced["longgen-sink", "snapkv"] == 0.6
    front = {row["variant"] for row in measured if row["kv_fraction_front"]}
    assert front == {"full", "longgen-sink", "middle-1-6", "middle-1-2", "all-sparse"}
    best = [(row["method"], row["budget_of"]) for row in rows[len(ABLATION) :] if row["kv_fraction_front"]]
    assert best == [("snapkv", "longgen-sink")]
    for axes, cost in ((memory, "kv_fraction"), (time, "prefill_time")):
        (step,) = [line for line in axes.lines if line.get_drawstyle().startswith("steps")]
        on_front = drawing.data[drawing.data[f"{cost}_front"]].sort_values(cost)
        assert step.get_drawstyle() == "steps-post", "up to the next cost nothing better is to be had"
        assert step.get_xydata() == pytest.approx(on_front[[cost, "needle_exact"]].to_numpy(float))
        assert on_front["needle_exact"].is_monotonic_increasing
    colors = {row["family"]: bar.lines[0].get_color() for row, bar in zip(rows, memory.containers, strict=True)}
    families = ("full", "reference", "pattern", "all-sparse", "ratio", "placement", "reduction")
    assert tuple(colors) == families
    assert len(set(colors.values())) == len(families)
    variants = [variant_styles(ABLATION)[name].label for name in ABLATION]
    assert sorted(text.get_text() for text in memory.texts) == sorted([*variants, "snapkv", "tova"]), "each once"
    assert sorted(text.get_text() for text in time.texts) == sorted(variants)
    assert len(legend(drawing.figure)) == len(families) + 1


def test_pareto_front() -> None:
    cost, quality = np.array([1.0, 0.4, 0.4, 0.6, 0.1]), np.array([0.9, 0.8, 0.7, 0.75, 0.2])
    assert pareto_front(cost, quality).tolist() == [4, 1, 0]
