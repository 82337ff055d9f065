"""Figure `probe`: what it draws, value by value, against made-up records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ArtifactError
from longgen.reporting.drawing import Drawing
from longgen.reporting.figures import FIGURES
from longgen.reporting.figures.probe import LOOKS
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import paper_style
from longgen.statistics import mean_interval
from tests.reporting.fake_probe import NEEDED, write_probe
from tests.reporting.fake_run import write_run
from tests.reporting.test_look import assert_looks_right


def draw(run: Run) -> Drawing:
    with paper_style():
        return FIGURES["probe"](run)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    write_probe(tmp_path / "probed")
    return open_run("probed", tmp_path)


def test_every_layers_cost_is_drawn_with_its_paired_interval(run: Run) -> None:
    drawing = draw(run)
    alone = drawing.data[drawing.data["set"] == "alone"].set_index("layer")
    assert list(alone.index) == list(range(30))
    factors = np.linspace(0.8, 1.2, 4)
    for layer in range(30):
        costs = (NEEDED.get(layer, 0) + 0.002) * factors
        expected = [costs.mean(), *mean_interval(costs)]
        np.testing.assert_allclose(alone.loc[layer, ["value", "value_low", "value_high"]].astype(float), expected)
    points, _, (bars,) = drawing.figure.axes[0].containers[0]
    np.testing.assert_allclose(points.get_xydata(), np.stack([np.arange(30), alone["value"]], axis=1))
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, alone[["value_low", "value_high"]])
    (paper,) = drawing.figure.axes[0].patches
    assert (paper.get_x(), paper.get_x() + paper.get_width()) == (9.5, 19.5)  # the middle third of 30


def test_curves_go_from_all_sparse_to_all_full_with_the_losses_of_every_set(run: Run) -> None:
    drawing = draw(run)
    axes, data = drawing.figure.axes[1], drawing.data
    assert axes.get_yscale() == "log"
    values = {name: data[data["set"] == name] for name in ("greedy", "ranked", "middle", "interleaved")}
    ends = data[data["set"].isin(["full", "sparse"])].set_index("set")["value"]
    lines = [line for line in axes.lines if line.get_color() in {look[0] for look in LOOKS.values()}]
    joined = [line for line in lines if line.get_linestyle() == "-"]
    for (name, rows), line in zip(values.items(), joined, strict=True):
        assert line.get_color() == LOOKS[name][0]
        last = [] if name == "greedy" else [ends["full"]]  # it is not known how the greedy choice would go on
        expected = [ends["sparse"], *rows.sort_values("full_layers")["value"], *last]
        np.testing.assert_allclose(line.get_ydata(), expected)
        np.testing.assert_allclose(line.get_xdata()[1 : len(rows) + 1], sorted(rows["full_layers"]), atol=0.3)
    base = 1.2 + 0.3 * np.arange(4)
    middle = values["middle"].set_index("full_layers").loc[10]
    left_out = sum(cost for layer, cost in NEEDED.items() if not 10 <= layer < 20) + 0.002 * 20
    assert middle["value"] == pytest.approx(base.mean() + left_out)
    assert (values["ranked"].set_index("full_layers")["value"][5]) == pytest.approx(base.mean() + 0.05)
    assert "candidate" not in set(data["set"])


def test_heads_stand_beside_each_other_and_beside_layers(tmp_path: Path) -> None:
    write_probe(tmp_path / "probed")
    write_probe(tmp_path / "probed", by_heads=True)
    drawing = draw(open_run("probed", tmp_path))
    assert len(drawing.figure.axes) == 4
    heads = drawing.data[(drawing.data["by"] == "heads") & (drawing.data["set"] == "alone")]
    points, _, _ = drawing.figure.axes[1].containers[0]
    places = points.get_xydata()[:, 0]
    assert len(places) == len(heads) == 90
    np.testing.assert_array_equal(np.round(places), heads["layer"])
    assert len(set(np.round(places, 6))) == 90


def test_words_are_inside_and_apart_and_ticks_have_labels(tmp_path: Path) -> None:
    write_probe(tmp_path / "probed", layers=80)
    for by_heads in (False, True):
        write_probe(tmp_path / "probed", by_heads, layers=80)
        with paper_style():
            figure = draw(open_run("probed", tmp_path)).figure
        assert_looks_right(figure)


def test_the_command_draws_a_folder_that_holds_a_probe_alone(tmp_path: Path) -> None:
    write_probe(tmp_path / "results/probed")
    where = ("--results", str(tmp_path / "results"), "--output", str(tmp_path))
    outcome = CliRunner().invoke(app, ["figures", "probed", *where])
    assert outcome.exit_code == 0, outcome.output
    assert {path.name for path in (tmp_path / "probed").iterdir()} == {"probe.png", "probe.pdf", "probe.csv"}


def test_a_probe_beside_an_experiment(tmp_path: Path) -> None:
    write_probe(write_run(tmp_path / "smoke"))
    run = open_run("smoke", tmp_path)
    assert run.subjects == ("a probe", "benchmarks", "experiment")
    assert len(draw(run).data) > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda row: row.update(answer_losses=[1.0, 2.0]), "'answer_losses' holds something that is no list of n"),
        (lambda row: row.update(text_losses=[1.0, 2.0, 3.0, None]), "'text_losses' holds something that is no list"),
        (lambda row: row.update(n=3, answer_losses=[1.0] * 3, text_losses=[1.0] * 3), "2 numbers of prompts"),
        (lambda row: row.update(set="sparse"), "0 records of all layers full by layers"),
        (lambda row: row.pop("layout"), "column 'layout'"),
    ],
)
def test_records_that_are_no_probes_are_refused(tmp_path: Path, change, message) -> None:
    path = write_probe(tmp_path / "probed")
    value = json.loads(path.read_text())
    for row in value["records"] if "layout" in message else value["records"][:1]:
        change(row)
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=message):
        draw(open_run("probed", tmp_path))
