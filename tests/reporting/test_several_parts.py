"""Answers of several parts: the share of them in tables and figures, beside runs that know of no such task."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from longgen.reporting.ablation import ablation_markdown, ablation_table, readable_table
from longgen.reporting.comparison import REDUCED, comparison_table
from longgen.reporting.figures import FIGURES
from longgen.reporting.measures import pool_shares
from longgen.reporting.run import Run, open_run
from longgen.reporting.style import paper_style
from tests.reporting.fake_reductions import write_reductions
from tests.reporting.fake_run import DEFAULTS, LENGTHS, TRAINED, recalled, write_run

BEYOND = 2 * TRAINED
SHARES = {
    "multivalue": (0.75, 0.25),
    "common-words": (0.5,),
}  # of the cells of a length; the second variant: half of it


def cell(task: str, length: int, depth: float | None, share: float) -> dict:
    scores = {"exact": 0.0, "exact_low": 0.0, "exact_high": 0.2}
    shares = {"share": share, "share_low": share - 0.06, "share_high": share + 0.08}
    return {"task": task, "length": length, "depth": depth, "n": 20} | scores | shares


def cells(task: str, factor: float, lengths: tuple[int, ...]) -> list[dict]:
    depths = (0.0, 1.0) if task == "multivalue" else (None,)
    pairs = list(zip(depths, SHARES[task], strict=True))
    return [cell(task, length, depth, share * factor) for length in lengths for depth, share in pairs]


def add_records(path: Path, records: list[dict]) -> None:
    written = json.loads(path.read_text())
    path.write_text(json.dumps(written | {"records": written["records"] + records}))


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = write_reductions(write_run(tmp_path_factory.mktemp("several") / "smoke"))
    for number, variant in enumerate(DEFAULTS):
        asked = [record for task in SHARES for record in cells(task, 1 / (1 + number), (*LENGTHS, BEYOND))]
        add_records(folder / f"benchmarks/{variant}/scores.json", recalled(asked))
    named = {"method": "tova", "budget_of": "longgen-sink", "kv_fraction": 0.37}
    reduced = recalled(cells("multivalue", 0.2, (TRAINED,)), **named)
    add_records(folder / "benchmarks/full/reduced-as-longgen-sink/scores.json", reduced)
    return open_run("smoke", folder.parent)


def test_shares_are_pooled_by_samples_and_their_arms_as_errors_of_means() -> None:
    rows = pd.DataFrame([cell("multivalue", 512, 0.0, 0.7), cell("multivalue", 512, 1.0, 0.2) | {"n": 60}])
    (pooled,) = pool_shares(rows.assign(variant="a"), ["variant", "task"]).to_dict("records")
    assert (pooled["n"], pooled["share"]) == (80, pytest.approx(0.25 * 0.7 + 0.75 * 0.2))
    assert pooled["share"] - pooled["share_low"] == pytest.approx(0.06 * math.hypot(0.25, 0.75))
    assert pooled["share_high"] - pooled["share"] == pytest.approx(0.08 * math.hypot(0.25, 0.75))
    only = pool_shares(rows.assign(variant="a", task="needle"), ["variant", "task"])
    assert only.empty
    assert list(only.columns) == ["variant", "task", "n", "share", "share_low", "share_high"]


def test_the_ablation_has_the_share_at_the_trained_length(several: Run) -> None:
    rows = ablation_table(several).set_index("variant")
    assert rows.loc["full", ["multivalue_share", "common_words_share"]].tolist() == [0.5, 0.5]
    assert rows.loc["longgen-sink", ["multivalue_share", "common_words_share"]].tolist() == [0.25, 0.25]
    assert rows.loc["full", "common_words_share_high"] == pytest.approx(0.58)
    readable = readable_table(rows.reset_index())
    assert readable.loc[0, "common words"] == "**0.50 (0.44\u20130.58)**"
    text = ablation_markdown(several, ablation_table(several))
    assert "- multi-value, common words: share of the answer's parts" in text


def test_reductions_have_their_share_beside_their_exact_match(several: Run) -> None:
    table = comparison_table(several)
    tova = table[(table["what"] == REDUCED) & (table["method"] == "tova") & (table["budget_of"] == "longgen-sink")]
    assert tova["multivalue_share"].tolist() == [pytest.approx(0.1)]
    assert tova["multikey_exact"].tolist() == [0.25]
    assert tova["needle_n"].tolist() == [20]


def test_tasks_that_nobody_was_asked_have_no_column_to_read(run: Run) -> None:
    text = ablation_markdown(run, ablation_table(run))
    assert "multi-value" not in text
    assert "common words" not in text


@pytest.mark.slow
def test_figure_has_a_panel_per_task_with_its_own_score_beyond_the_trained_length_too(several: Run) -> None:
    with paper_style():
        drawing = FIGURES["retrieval"](several)
        drawing.figure.draw_without_rendering()
    panels = drawing.figure.axes
    titles = [axes.get_title() for axes in panels]
    assert titles[3:] == ["multi-value needle", "common words"]
    assert [axes.get_ylabel() for axes in panels] == ["exact match"] * 3 + ["share of the answer"] * 2
    for axes in panels[3:]:
        full = axes.containers[0].lines[0]
        assert full.get_ydata().tolist() == [0.5] * 5
        assert [text.get_text() for text in axes.get_xticklabels()] == ["256", "512", "1K", "2K", "4K"]
        marked = {line.get_xdata()[0] for line in axes.lines if len(set(line.get_xdata())) == 1}
        assert marked == {2**0, 2**3}, "base and trained length, evenly spaced"
    drawn = drawing.data.set_index(["variant", "task", "length"])
    assert drawn.loc[("longgen-sink", "common-words", TRAINED), "share"] == 0.25
    assert pd.isna(drawn.loc[("full", "needle", TRAINED), "share"])
