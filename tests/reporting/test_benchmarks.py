"""Benchmarks: what tables and figures show, value by value, and that stand-in data always says so."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from pandas.testing import assert_frame_equal
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ArtifactError
from longgen.evaluation.baselines import METHODS
from longgen.evaluation.benchmarks import benchmark
from longgen.reporting import BENCHMARKS, FIGURE_NAMES, TABLES, table_maker
from longgen.reporting import report as report_module
from longgen.reporting.benchmarks import STAND_IN, in_order, is_stand_in, over_depths, short_labels, with_model
from longgen.reporting.drawing import FORMATS
from longgen.reporting.figures import FIGURES
from longgen.reporting.report import write_report
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import variant_styles
from longgen.results import Result
from longgen.statistics import wilson_interval
from tests.reporting.fake_benchmarks import (
    BINS,
    BUDGET_OF,
    DAY,
    DEPTHS,
    LABELS,
    LENGTHS,
    MODELS,
    SAMPLES,
    SOURCE,
    VARIANTS,
    exact,
    kv_fraction,
    nll,
    rouge,
    ruler,
    write_benchmarks,
)
from tests.reporting.fake_run import BASE, DEFAULTS, DEVICE, TRAINED, write_experiment
from tests.reporting.test_figures import draw, ends, errorbars, legend, panels, vertical_lines

FILES = {f"{name}.{suffix}" for name in FIGURE_NAMES[BENCHMARKS] for suffix in FORMATS} | {
    f"{name}.{suffix}" for name in TABLES[BENCHMARKS] for suffix in ("csv", "md")
}
MARKED = f"({STAND_IN})"


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """An experiment with benchmarks of the benchmarks' own data beside it."""
    folder = tmp_path_factory.mktemp("planned")
    write_benchmarks(write_experiment(folder / "smoke"), "smoke", stand_in=False)
    return open_run("smoke", folder)


def changed(run: Run, kind: str, **values: object) -> Run:
    """``run`` with other values in the records of ``kind``."""
    results = [
        Result(r.kind, r.run, [x | values for x in r.records], r.provenance, r.variant) if r.kind == kind else r
        for r in run.results
    ]
    return Run(run.name, run.folder, results)


def markdown_rows(text: str, first: str) -> list[list[str]]:
    """Cells of the rows whose first cell is ``first``."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows if row[0] == first]


# ---------------------------------------------------------------- reading
def test_frames_have_the_variant_and_the_plans_order(tmp_path: Path) -> None:
    models = [(name, "none", "none") for name in (*reversed(DEFAULTS), "base", "another")]
    write_benchmarks(write_experiment(tmp_path / "smoke"), "smoke", models)
    run = open_run("smoke", tmp_path)
    for kind in ("benchmark", "benchmark-summary", "perplexity", "short-context"):
        assert list(run.frame(kind)["variant"].drop_duplicates()) == [*DEFAULTS, "another", "base"]
    assert run.subjects == ("benchmarks", "experiment")
    labels = {line.get_label() for panel in panels(draw("perplexity", run).figure) for line in panel.lines}
    assert labels >= {"base model", "another"}


def test_models_with_a_reduced_cache_are_last_whatever_their_files_are_called(benchmark_run: Run) -> None:
    """h2o-as-..., scores.json and snapkv-as-... are read in this order."""
    rows = with_model(benchmark_run.frame("benchmark"))
    assert list(rows["model"].cat.categories) == LABELS
    assert list(with_model(benchmark_run.frame("perplexity"))["model"].cat.categories) == LABELS[:2]


def test_official_order_of_benchmarks_and_tasks() -> None:
    tasks = [("ruler", "vt"), ("babilong", "qa10"), ("babilong", "qa2"), ("needle", "keys"), ("needle", "fu")]
    rows = pd.DataFrame([{"benchmark": b, "task": t, "length": math.nan, "variant": "full"} for b, t in tasks])
    ordered = in_order(with_model(rows), ["benchmark", "task", "length"])
    assert list(zip(ordered["benchmark"], ordered["task"], strict=True)) == [
        *(("needle", "fu"), ("needle", "keys"), ("ruler", "vt"), ("babilong", "qa2"), ("babilong", "qa10"))
    ]
    assert {task for _, task in tasks} <= {task for name, _ in tasks for task in benchmark(name).tasks}


# ---------------------------------------------------------------- tables
def test_scores_are_means_over_depths_with_the_interval_of_all_samples(benchmark_run: Run) -> None:
    table, _ = table_maker("benchmark_scores")(benchmark_run)
    rows = table.set_index(["benchmark", "task", "metric", "length", "variant", "method"]).sort_index()
    n = len(DEPTHS) * SAMPLES
    for number, (variant, method, budget_of) in enumerate(MODELS):
        for length in LENGTHS:
            for task in ("fu", "keys"):
                row = rows.loc[("needle", task, "exact", length, variant, method)]
                found = [exact(number, task, length, depth) for depth in DEPTHS]
                assert (row["n"], row["score"]) == (n, pytest.approx(np.mean(found)))
                assert (row["score_low"], row["score_high"]) == pytest.approx(
                    wilson_interval(round(sum(found) * SAMPLES), n)
                )
                assert row["budget_of"] == budget_of
                assert row["kv_fraction"] == pytest.approx(kv_fraction(number, length) or math.nan, nan_ok=True)
            row = rows.loc[("needle", "fu", "rouge1", length, variant, method)]
            mean = np.mean([rouge(number, length, depth) for depth in DEPTHS])
            # standard errors of three independent cells: each interval's arm over the root of three
            arms = mean - 0.03 / math.sqrt(3), mean + 0.04 / math.sqrt(3)
            assert (row["score"], row["score_low"], row["score_high"]) == pytest.approx((mean, *arms))
            row = rows.loc[("ruler", "qa_1", "score", length, variant, method)]
            assert row["score_high"] - row["score"] == pytest.approx(0.05), "one cell keeps its interval"
    assert list(dict.fromkeys(table["benchmark"])) == ["needle", "ruler", "longbench"]
    assert list(table["task"].drop_duplicates())[:2] == ["fu", "keys"]


def test_cells_count_by_their_samples_and_intervals_stay_within_bounds() -> None:
    cell = {"benchmark": "needle", "task": "fu", "metric": "rouge1", "length": 512, "stand_in": True}
    cell |= {"variant": "full", "method": "none", "budget_of": "none"}
    low = {"n": 30, "score": 0.9, "score_low": 0.5, "score_high": 1.0, "kv_fraction": 0.2}
    high = {"n": 10, "score": 1.0, "score_low": 1.0, "score_high": 1.3, "kv_fraction": 0.6}
    (row,) = over_depths(pd.DataFrame([cell | low, cell | high])).to_dict("records")
    assert (row["n"], row["score"], row["kv_fraction"]) == (40, pytest.approx(0.925), pytest.approx(0.3))
    assert row["score_low"] == pytest.approx(0.925 - 0.3)
    assert row["score_high"] == 1.0
    mixed = over_depths(pd.DataFrame([cell | low, cell | high | {"stand_in": False}]))
    assert list(mixed["stand_in"]) == [True, False], "stand-in data and the benchmark's are never pooled"
    (unknown,) = over_depths(pd.DataFrame([cell | low, cell | high | {"kv_fraction": math.nan}]))["kv_fraction"]
    assert math.isnan(unknown)


def test_scores_to_read(benchmark_run: Run) -> None:
    _, text = table_maker("benchmark_scores")(benchmark_run)
    heading = markdown_rows(text, "task")[0]
    share = [100 * (kv_fraction(1, length) or 0) for length in (LENGTHS[-1], LENGTHS[0])]
    assert heading == [
        *("task", "metric", "length", "data", "n"),
        "full attention, KV 100.0 %",
        f"LongGen (sink), KV {share[0]:.1f}\u2013{share[1]:.1f} %",
        f"{LABELS[2]}, KV {share[0] + 1:.1f}\u2013{share[1] + 1:.1f} %",
        LABELS[3],
    ]
    found = {(row[1], row[2]): row for row in markdown_rows(text, "fu")}
    assert list(found) == [(metric, length) for metric in ("exact", "rouge1") for length in ("512", "1K", "2K", "4K")]
    mean = np.mean([exact(3, "fu", 4096, depth) for depth in DEPTHS])
    low, high = wilson_interval(round(mean * 60), 60)
    row = found["exact", "4K"]
    assert row[3:5] == ["stand-in", "60"]
    assert row[-1] == f"{100 * mean:.1f} ({100 * low:.1f}\u2013{100 * high:.1f})"
    assert markdown_rows(text, "qasper")[0][2] == "natural"
    assert DEVICE in text
    assert DAY in text


def test_summary(benchmark_run: Run) -> None:
    table, text = table_maker("benchmark_summary")(benchmark_run)
    average = table[table["summary"] == "average"].set_index(["length", "variant", "method"])["value"]
    for number, (variant, method, _) in enumerate(MODELS):
        for length in LENGTHS:
            assert average.loc[(length, variant, method)] == pytest.approx(ruler(number, length))
    rows = markdown_rows(text, "effective-length")
    assert rows == [["effective-length", "all", "stand-in", "260", "2K tokens", "1K tokens", "none", "none"]]
    value = ruler(1, 512)
    assert markdown_rows(text, "average")[0][5] == f"{value:.1f} ({value - 2:.1f}\u2013{value + 1.5:.1f})"
    assert [line for line in text.splitlines() if line.startswith("## ")] == ["## needle", "## ruler", "## longbench"]


def test_short_context(benchmark_run: Run) -> None:
    table, text = table_maker("short_context")(benchmark_run)
    assert set(table["variant"]) == set(VARIANTS)
    assert markdown_rows(text, "hellaswag") == [
        ["hellaswag", "acc", "10", "stand-in", "100\u2013120", "70.0 (66.0\u201375.0)", "67.0 (63.0\u201372.0)"],
        ["hellaswag", "acc_norm", "10", "stand-in", "100\u2013120", "60.0 (56.0\u201365.0)", "57.0 (53.0\u201362.0)"],
    ]
    assert "KV" not in text


def test_what_one_model_lacks_is_an_empty_cell(benchmark_run: Run) -> None:
    kept = [r for r in benchmark_run.results if r.kind == "short-context"]
    hybrid = Result(kept[1].kind, kept[1].run, kept[1].records[:1], {}, kept[1].variant)
    _, text = table_maker("short_context")(Run("some", benchmark_run.folder, [kept[0], hybrid]))
    assert markdown_rows(text, "arc_easy") == [["arc_easy", "acc", "0", "stand-in", "100", "50.0 (46.0\u201355.0)", ""]]


# ---------------------------------------------------------------- stand-in data
@pytest.mark.parametrize("name", FIGURE_NAMES[BENCHMARKS])
def test_figures_of_stand_in_data_say_so(name: str, benchmark_run: Run, planned: Run) -> None:
    assert draw(name, benchmark_run).figure.get_suptitle().endswith(MARKED)
    assert STAND_IN not in draw(name, planned).figure.get_suptitle()


@pytest.mark.parametrize("name", TABLES[BENCHMARKS])
def test_tables_of_stand_in_data_say_so(name: str, benchmark_run: Run, planned: Run) -> None:
    table, text = table_maker(name)(benchmark_run)
    tables = sum(line.startswith("|:-") for line in text.splitlines())
    assert tables == text.count(f"**{STAND_IN.capitalize()}**") > 0, "each of its tables"
    assert table["stand_in"].all()
    own, words = table_maker(name)(planned)
    assert not own["stand_in"].any()
    assert "tand-in" not in words


def test_data_that_does_not_say_what_it_is_counts_as_stand_in(planned: Run) -> None:
    run = changed(planned, "perplexity", stand_in=None)
    assert is_stand_in(run.frame("perplexity"))
    assert draw("perplexity", run).figure.get_suptitle().endswith(MARKED)


# ---------------------------------------------------------------- figures
def test_needle(planned: Run) -> None:
    drawing = draw("needle", planned)
    axes = panels(drawing.figure)
    assert [panel.get_title() for panel in axes] == LABELS[:2], "reduced caches are in needle_reductions"
    for number, panel in enumerate(axes):
        mesh = next(c for c in panel.collections if isinstance(c, QuadMesh))
        expected = [[exact(number, "fu", length, depth) for length in LENGTHS] for depth in DEPTHS]
        assert mesh.get_array().tolist() == pytest.approx(np.array(expected))
        assert mesh.get_clim() == (0, 1)
        bottom, top = panel.get_ylim()
        assert bottom > top, "row 0, depth 0, is at the top"
        assert vertical_lines(panel) == [2.5], "after the trained length, the third of four"
        assert [t.get_text() for t in panel.get_xticklabels()] == ["512", "1K", "2K", "4K"]
    assert [t.get_text() for t in axes[0].get_yticklabels()] == ["0 %", "50 %", "100 %"]
    note = drawing.figure.texts[1].get_text()
    assert "task fu" in note
    assert "20 samples per cell" in note
    worst = drawing.data.set_index(["variant", "length", "depth"]).loc[(BUDGET_OF, 4096, 0.0)]
    assert worst["exact"] == exact(1, "fu", 4096, 0.0)


def test_needle_without_plan_and_without_fu(benchmark_run: Run) -> None:
    results = [
        Result(r.kind, r.run, [x for x in r.records if x.get("task") != "fu"], r.provenance, r.variant)
        for r in benchmark_run.results
    ]
    run = Run(benchmark_run.name, benchmark_run.folder, results)
    figure = draw("needle", run).figure
    assert [panel.get_title() for panel in panels(figure)] == [*LABELS[:2], "reduced: snapkv", "reduced: h2o"]
    assert f"20 samples per cell \u00b7 reduced: full, to the bytes of {BUDGET_OF}" in figure.texts[1].get_text()
    panel = panels(figure)[1]
    mesh = next(c for c in panel.collections if isinstance(c, QuadMesh))
    assert mesh.get_array()[0, 3] == exact(1, "keys", 4096, 0.0)
    assert vertical_lines(panel) == [], "nobody says how long it was trained"


def test_lengths_beyond_the_trained_one_alone_have_no_mark(planned: Run) -> None:
    results = [
        Result(r.kind, r.run, [x for x in r.records if (x.get("length") or 0) > TRAINED], r.provenance, r.variant)
        if r.kind in ("benchmark", "benchmark-summary")
        else r
        for r in planned.results
    ]
    run = Run(planned.name, planned.folder, results)
    assert vertical_lines(panels(draw("needle", run).figure)[0]) == []
    assert vertical_lines(panels(draw("ruler_by_length", run).figure)[0]) == []


def test_ruler_by_length(planned: Run) -> None:
    drawing = draw("ruler_by_length", planned)
    (axes,) = panels(drawing.figure)
    labels = [*LABELS[:2], "reduced: snapkv", "reduced: h2o"]
    bars = errorbars(axes)
    assert list(bars) == labels
    for number, label in enumerate(labels):
        expected = np.array([ruler(number, length) for length in LENGTHS])
        assert bars[label].lines[0].get_ydata() == pytest.approx(expected)
        assert bars[label].lines[0].get_xdata() == pytest.approx(LENGTHS, rel=0.1)
        assert ends(bars[label]) == pytest.approx(np.array([expected - 2, expected + 1.5]).T)
    assert len({bars[label].lines[0].get_color() for label in labels}) == 4
    assert bars[LABELS[1]].lines[0].get_color() == variant_styles(["longgen-sink"])["longgen-sink"].color
    flat = [line for line in axes.lines if len(line.get_xdata()) == 2 and len(set(line.get_ydata())) == 1]
    assert [line.get_ydata()[0] for line in flat] == [85.6], "the benchmark's threshold of an effective length"
    assert TRAINED in vertical_lines(axes)
    assert axes.get_xscale() == "log"
    assert [t.get_text() for t in axes.get_xticklabels()] == ["512", "1K", "2K", "4K"]
    assert axes.get_ylabel() == "score (%)"
    assert legend(drawing.figure) == [*labels, "85.6: what an effective length needs"]
    assert drawing.data["length"].tolist() == [length for length in LENGTHS for _ in MODELS]


def test_reductions_to_several_budgets_are_told_apart(benchmark_run: Run) -> None:
    models = [("full", "none", "none"), ("full", "snapkv", "a"), ("full", "snapkv", "b"), ("full", "tova", "none")]
    rows = pd.DataFrame(models, columns=["variant", "method", "budget_of"])
    labels, note = short_labels(with_model(rows))
    assert list(labels) == [
        *("full attention", "full, reduced: tova"),
        *("full, reduced: snapkv (bytes of a)", "full, reduced: snapkv (bytes of b)"),
    ]
    assert list(labels.values())[2:] == ["reduced: snapkv, a", "reduced: snapkv, b"]
    assert note.endswith("to the bytes of the variant named")
    assert short_labels(with_model(rows[:1]))[1] == ""
    by_plan = list(short_labels(with_model(rows, ["full", "b", "a"]))[0])
    assert [label[-2] for label in by_plan[2:]] == ["b", "a"], "budgets are in the order of the plan"


def test_every_reduction_has_a_colour_of_its_own() -> None:
    looks = variant_styles([*DEFAULTS, *METHODS])
    assert len({look.color for look in looks.values()}) == len(looks)


def test_long_text(planned: Run) -> None:
    drawing = draw("perplexity", planned)
    axes, difference = panels(drawing.figure)
    assert (axes.get_title(), difference.get_title()) == (SOURCE, "against full attention")
    lines = {line.get_label(): line for line in axes.lines if len(line.get_xdata()) > 2}
    assert list(lines) == LABELS[:2]
    starts = np.arange(0, TRAINED, TRAINED // BINS)
    for number, label in enumerate(LABELS[:2]):
        assert lines[label].get_xdata() == pytest.approx(starts + TRAINED // BINS / 2)
        assert lines[label].get_ydata() == pytest.approx([math.exp(nll(number, start)) for start in starts])
    assert vertical_lines(axes) == [BASE]
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(math.exp(nll(0, 0) + 0.03))
    assert "5 documents" in drawing.figure.texts[1].get_text()
    assert legend(drawing.figure) == LABELS[:2]


def test_long_texts_of_two_sources_are_panels(benchmark_run: Run) -> None:
    other = changed(benchmark_run, "perplexity", source="other books", perplexity=50.0)
    both = Run("both", benchmark_run.folder, [*benchmark_run.results, *other.results])
    axes = panels(draw("perplexity", both).figure)
    assert [panel.get_title() for panel in axes[::2]] == [SOURCE, "other books"]
    assert set(next(line for line in axes[2].lines if line.get_label() == LABELS[0]).get_ydata()) == {50.0}


# ---------------------------------------------------------------- the whole report
@pytest.mark.slow
def test_a_run_of_benchmarks_alone(benchmark_run: Run, tmp_path: Path) -> None:
    report = write_report(benchmark_run, tmp_path)
    assert not report.omissions
    assert {path.name for path in tmp_path.iterdir()} == FILES
    for name in FIGURE_NAMES[BENCHMARKS]:
        read = pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, na_values=[""])
        assert_frame_equal(read, FIGURES[name](benchmark_run).data, check_dtype=False, rtol=1e-11, atol=0)
    scores = pd.read_csv(tmp_path / "benchmark_scores.csv", dtype=str, keep_default_na=False)
    assert list(dict.fromkeys(scores["length"])) == [*map(str, LENGTHS), ""], "tokens are whole numbers"
    with pytest.raises(ArtifactError, match="benchmarked is no experiment, it measured benchmarks alone"):
        write_report(benchmark_run, tmp_path, ["claims"])


def test_what_has_no_input_is_left_out_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "save_drawing", lambda drawing, folder, name: [folder / name])  # quicker
    folder = write_benchmarks(tmp_path / "some")
    for path in [*folder.rglob("perplexity.json"), *folder.rglob("short-context.json")]:
        path.unlink()
    for path in [*folder.rglob("summary.json"), *folder.rglob("scores.json")]:
        value = json.loads(path.read_text())
        kept = [record for record in value["records"] if record["benchmark"] == "longbench"]
        path.write_text(json.dumps(value | {"records": kept}))
    report = write_report(open_run("some", tmp_path), tmp_path / "out")
    assert {name: why.split("is missing: ")[1] for name, why in report.omissions.items()} == {
        "needle": "`longgen benchmark score ... --run some` makes it (it holds no needle at several depths)",
        "ruler_by_length": "`longgen benchmark score ... --run some` makes it (it holds no average of RULER)",
        "ruler_tasks": "`longgen benchmark score ... --run some` makes it (it holds nothing of RULER)",
        "ruler_tasks_table": "`longgen benchmark score ... --run some` makes it (it holds nothing of RULER)",
        "perplexity": "`longgen perplexity ... --run some` makes it",
        "short_context": "`longgen short-context ... --run some` makes it",
    }


def test_publish_a_run_of_benchmarks_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_module, "save_drawing", lambda drawing, folder, name: [folder / name])  # quicker
    write_benchmarks(tmp_path / "results/benchmarked", models=MODELS[:1])
    where = ["--results", str(tmp_path / "results"), "--output", str(tmp_path / "out")]
    result = CliRunner().invoke(app, ["publish", "benchmarked", "--as", "kept", *where], catch_exceptions=False)
    assert "without" not in result.stderr
    assert (tmp_path / "results/published/kept/benchmarks/full/scores.json").exists()
    assert STAND_IN.capitalize() in (tmp_path / "out/published/kept/benchmark_scores.md").read_text()
