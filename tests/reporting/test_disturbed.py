"""A disturbed measurement is marked wherever it is shown; older files, which do not tell, are read and not marked."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from longgen.busy import RULE, SIGN, WATCHED
from longgen.cli import app
from longgen.reporting.ablation import ablation_markdown, ablation_table
from longgen.reporting.disturbed import disturbed_note, with_disturbed
from longgen.reporting.figures import FIGURES
from longgen.reporting.report import write_table
from longgen.reporting.run import Run, open_run
from longgen.reporting.seeds.evidence import evidence_table
from longgen.reporting.seeds.evidence_text import evidence_markdown
from longgen.reporting.seeds.groups import find_groups
from longgen.reporting.seeds.table import seeds_markdown, seeds_table
from longgen.reporting.seeds.values import read_values
from tests.reporting.fake_run import write_run
from tests.reporting.fake_seeds import speedup as seed_speedup
from tests.reporting.fake_seeds import write_seed

CALM = dict.fromkeys(WATCHED, 0.0) | {"spread": 0.0, "speedup_spread": 0.0}


def disturb(path: Path, variant: str | None = None, stage: str | None = None) -> None:
    """Write how busy the machine was into a file of times: too busy where it is that variant and stage."""
    told = json.loads(path.read_text())
    for record in told["records"]:
        hit = variant in (None, record["variant"]) and stage in (None, record["stage"])
        record.update(CALM | ({"others": 0.5} if hit else {}))
    path.write_text(json.dumps(told))


@pytest.fixture
def busy_run(tmp_path: Path) -> Run:
    """The prefill of longgen-sink was disturbed at all four lengths."""
    disturb(write_run(tmp_path / "smoke") / "profile/speed.json", "longgen-sink", "prefill")
    return open_run("smoke", tmp_path)


ALL_LENGTHS = [f"LongGen (sink) in prefill at {length}" for length in ("512", "1K", "2K")]
OF_TRAINED = "prefill of LongGen (sink)"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("speedup", "LongGen (sink) in prefill at 4K"),
        ("speed_by_length", f"{', '.join(ALL_LENGTHS)}, 1 more"),
        ("time_by_length", f"{', '.join(ALL_LENGTHS)}, 1 more"),
        ("ratio_placement_pattern", OF_TRAINED),
        ("pareto", OF_TRAINED),
    ],
)
def test_figures_of_times_say_which_of_what_they_show_and_others_do_not(
    name: str, shown: str, busy_run: Run, run: Run
) -> None:
    note = " ".join(FIGURES[name](busy_run).figure.texts[1].get_text().split())
    assert f"{SIGN} disturbed: {shown}" in note
    assert SIGN not in FIGURES[name](run).figure.texts[1].get_text(), "not recorded"
    assert SIGN not in FIGURES["needle"](busy_run).figure.texts[1].get_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["speedup", "ratio_placement_pattern", "pareto"])
def test_a_figure_that_shows_nothing_disturbed_says_nothing(name: str, tmp_path: Path) -> None:
    path = write_run(tmp_path / "smoke") / "profile/speed.json"
    disturb(path, "longgen-sink", "prefill")
    told = json.loads(path.read_text())
    for record in told["records"]:
        if record["length"] != 512:
            record.update(CALM)
    path.write_text(json.dumps(told))
    run = open_run("smoke", tmp_path)
    assert disturbed_note(run, "speed"), "of the run one is"
    figure = FIGURES[name](run).figure
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    assert not [text.get_text() for text in texts if SIGN in text.get_text()]


@pytest.mark.parametrize(("name", "count"), [("speed_by_length", 4), ("time_by_length", 8)])
def test_figures_by_length_mark_the_points(name: str, count: int, busy_run: Run) -> None:
    axes_of = FIGURES[name](busy_run).figure.axes
    assert sum(text.get_text() == SIGN for axes in axes_of for text in axes.texts) == count


def test_the_speedup_figure_marks_the_bar_and_no_other(busy_run: Run, run: Run) -> None:
    drawing = FIGURES["speedup"](busy_run)
    marked = [(axes.get_title(), text.get_text()) for axes in drawing.figure.axes for text in axes.texts]
    marked = [(title, text) for title, text in marked if SIGN in text]
    rows = drawing.data[drawing.data["speedup_disturbed"]]
    (row,) = rows.to_dict("records")
    assert (row["variant"], row["stage"]) == ("longgen-sink", "prefill")
    value = f"{row['speedup']:.2f}\u00d7{SIGN}"
    assert marked == [("prefill, 4K tokens", value)], "the ideal beside it is no measurement"
    assert FIGURES["speedup"](run).data["speedup_disturbed"].isna().all()


def test_the_ablation_marks_the_cell(busy_run: Run, run: Run) -> None:
    table = ablation_table(busy_run).set_index("variant")
    assert table["prefill_speedup_disturbed"].to_dict() == {name: name == "longgen-sink" for name in table.index}
    assert not table["training_speedup_disturbed"].any()
    text = ablation_markdown(busy_run, ablation_table(busy_run))
    assert text.split(RULE)[0].count(SIGN) == 1
    assert RULE in text
    assert SIGN not in ablation_markdown(run, ablation_table(run))
    assert ablation_table(run)["prefill_speedup_disturbed"].isna().all()


def test_tables_of_models_have_flags_in_their_csv(model_run: Run, tmp_path: Path) -> None:
    for name in ("training_speed", "inference_speed"):
        write_table(model_run, tmp_path, name)
        rows = pd.read_csv(tmp_path / f"{name}.csv")
        assert rows["disturbed"].all(), "times of three rounds, the second twice as slow"
        assert not rows["speedup_disturbed"].any(), "within rounds nothing changed"
        assert RULE in (tmp_path / f"{name}.md").read_text()


def test_comparisons_in_a_terminal_mark_it(busy_run: Run, tmp_path: Path) -> None:
    write_run(tmp_path / "older")

    def output(*arguments: str) -> str:
        found = CliRunner().invoke(app, [*arguments, "--results", str(tmp_path)], env={"COLUMNS": "200"})
        assert found.exit_code == 0, found.output
        return found.output

    alone = output("compare", "smoke")
    assert " ".join(alone.split()).count(f"{SIGN} Disturbed: meanwhile") == 1
    assert alone.count(SIGN) == 2
    both = output("compare", "smoke", "older")
    (line,) = [line for line in both.splitlines() if SIGN in line and "Disturbed" not in line]
    assert "prefill" in line
    assert line.count(SIGN) == 1, "that of the run that says so"
    assert SIGN not in output("compare", "older")
    assert f"smoke: {SIGN} disturbed: 4 of the run's 33 speed-ups" in " ".join(
        output("profile", "compare", "smoke", "older").split()
    )


def test_disturbed_speedups_are_left_out_of_means_over_seeds_and_that_is_said(tmp_path: Path) -> None:
    for seed in range(3):
        path = write_seed(tmp_path / f"mini-seed-{seed}", seed) / "profile/speed.json"
    disturb(path, "longgen-sink", "training")
    (group,) = find_groups([open_run(f"mini-seed-{seed}", tmp_path) for seed in range(3)])
    values = read_values(group)
    table = seeds_table(group, values)
    row = table.set_index("variant").loc["longgen-sink"]
    expected = (seed_speedup("longgen-sink", 0) + seed_speedup("longgen-sink", 1)) / 2
    assert row["training_speedup"] == pytest.approx(expected)
    assert (row["training_speedup_seeds"], row["prefill_speedup_seeds"]) == (2, 3)
    for text in (seeds_markdown(group, table, values), evidence_markdown(group, evidence_table(group, values))):
        assert "Left out are disturbed speed-ups of mini-seed-2" in text
        assert RULE in text


def test_files_of_earlier_versions_are_read_as_not_recorded(run: Run) -> None:
    rows = run.frame("speed")
    assert rows[["spread", "speedup_spread", *WATCHED]].isna().all(axis=None)
    flags = with_disturbed(rows)
    assert flags[["disturbed", "speedup_disturbed"]].isna().all(axis=None)
    assert disturbed_note(run, "speed", "retrieval") == ""
