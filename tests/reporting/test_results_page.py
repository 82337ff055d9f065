"""The page on all published runs: what it says was measured, and what it says was not."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from longgen.cli import app
from longgen.errors import ConfigError
from longgen.evaluation.benchmarks import BENCHMARKS
from longgen.reporting import results_page as module
from longgen.reporting.benchmarks import STAND_IN
from longgen.reporting.claims import ledger
from longgen.reporting.results_page import TINY_SIZES_NOTE, results_page
from longgen.reporting.run import Run, open_run
from tests.reporting.fake_benchmarks import write_benchmarks
from tests.reporting.fake_kernels import GPU, write_kernel_run
from tests.reporting.fake_run import DEVICE, write_run


def page(*runs: Run) -> str:
    figures = Path("paper_figures")
    tables = [figures / run.name / "ablation.md" for run in runs]
    return results_page(runs, ledger(runs), tables, figures, Path("docs/results.md"))


def cells(text: str, *beginnings: str) -> list[str]:
    """The cells of the only row of a table that begins so."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    (row,) = [row for row in rows if all(cell.startswith(b) for cell, b in zip(row, beginnings, strict=False))]
    return row


@pytest.fixture
def two(tmp_path: Path) -> tuple[Run, Run]:
    """Runs alike but for the first hybrid's KV cache in the second, where nothing of it was measured."""
    write_run(tmp_path / "published/first")
    write_run(tmp_path / "published/second")
    (tmp_path / "published/second/profile/memory.json").unlink()
    return open_run("published/first", tmp_path), open_run("published/second", tmp_path)


def test_claims_have_the_papers_number_the_prediction_and_what_was_measured_apart(two: tuple[Run, Run]) -> None:
    text = page(*two)
    assert "- at the paper's scale: all of it\n" in text
    assert "**At the paper's scale (llama2-7b, 131,072 tokens) nothing was measured yet.**" in text
    table = ledger(two)
    rows = table[(table["claim"] == "kv-reduction") & (table["variant"] == "longgen-sink")]
    own = rows[rows["scale"] != "llama2-7b @ 131072"]
    measured = f"{own['measured'].dropna().iloc[0]:.1f} %"
    verdict = own["verdict"].iloc[0]
    assert verdict != "not measured"
    row = cells(text, "KV cache reduction", "LongGen (sink)")
    assert row[2:] == ["62.0 %", "65.1 %", f"{measured}: {verdict}", "100 %", "100 %"]
    (heading,) = [line for line in text.splitlines() if line.startswith("| claim")]
    assert "measured at the paper's scale" not in heading, "an empty column says less than the sentence above it"


def test_values_of_several_runs_are_a_range(two: tuple[Run, Run]) -> None:
    table = ledger(two)
    rows = (table["claim"] == "training-speedup") & (table["variant"] == "longgen-sink") & table["measured"].notna()
    table.loc[table.index[rows], "measured"] = [1.25, 1.5]
    text = results_page(two, table, [], Path("paper_figures"), Path("results.md"))
    assert cells(text, "Training speed-up", "LongGen (sink)")[4].startswith("1.25 to 1.50\u00d7: ")
    table.loc[table.index[rows], "share"] = [0.804, 0.9]
    table.loc[table.index[rows], "verdict"] = ["share not reached", "share reached"]
    text = results_page(two, table, [], Path("paper_figures"), Path("results.md"))
    found = cells(text, "Training speed-up")
    assert found[4:] == ["1.25 to 1.50\u00d7: 1 share reached, 1 share not reached", "80 to 90 %", "86 %"]
    table.loc[table.index[rows], "disturbed"] = [True, False]
    text = results_page(two, table, [], Path("paper_figures"), Path("results.md"))
    assert cells(text, "Training speed-up")[4].startswith("1.25 to 1.50\u00d7\u2021: ")


def test_a_claim_is_named_once_for_all_its_variants_and_explained_below(two: tuple[Run, Run]) -> None:
    lines = page(*two).splitlines()
    (first,) = [index for index, line in enumerate(lines) if line.startswith("| The hybrid keeps the retrieval")]
    assert [cell.strip() for cell in lines[first + 1].split("|")[1:3]] == ["", "LongGen (stride)"]
    assert "- *The hybrid keeps the retrieval of full attention*: needle exact match, hybrid minus full." in lines


def test_claims_that_nobody_answered_are_not_measured(two: tuple[Run, Run]) -> None:
    assert cells(page(*two), "The hybrid retrieves better")[4] == "not measured"


def test_what_was_measured_at_the_papers_scale_is_said(two: tuple[Run, Run]) -> None:
    table = ledger(two)
    there = table.index[(table["claim"] == "prefill-speedup") & (table["scale"] == "llama2-7b @ 131072")]
    table.loc[there[0], ["measured", "verdict"]] = [1.7, "reproduced"]
    text = results_page(two, table, [], Path("paper_figures"), Path("results.md"))
    assert "1 of 22 rows of the ledger were measured" in text
    assert cells(text, "Prefill speed-up", "LongGen (sink)")[4] == "1.70\u00d7: reproduced"
    assert cells(text, "Decode speed-up", "LongGen (sink)")[4] == "not measured"
    (line,) = [line for line in text.splitlines() if line.startswith("- at the paper's scale: ")]
    assert "Prefill" not in line
    assert "Decode" in line


def test_runs_come_with_model_machine_day_commit_and_links_from_the_page(two: tuple[Run, Run]) -> None:
    row = cells(page(*two), "[first]")
    assert row == [
        "[first](../paper_figures/published/first)",
        "model smoke, 6 layers, extended from 256 to 2,048 tokens · training, retrieval, perplexity, speed, memory",
        f"{DEVICE}; 2025-01-01; commit abc123",
        "[ablation](../paper_figures/published/first/ablation.md)",
    ]


def test_what_no_run_measured_is_listed_and_what_one_did_is_not(two: tuple[Run, Run], tmp_path: Path) -> None:
    text = page(*two)
    for words in (*module._EXPECTED_KINDS.values(), ", ".join(name for name in BENCHMARKS if name != "recall")):
        assert f"{words}\n" in text
    write_kernel_run(tmp_path / "published/gpu")
    text = page(*two, open_run("published/gpu", tmp_path))
    assert module._EXPECTED_KINDS["kernel-speed"] not in text
    assert module._EXPECTED_KINDS["training-speed"] in text
    assert GPU in cells(text, "[gpu]")[2]


@pytest.mark.parametrize("stand_in", [True, False])
def test_stand_in_data_are_no_measurement_of_a_benchmark(two: tuple[Run, Run], tmp_path: Path, stand_in: bool) -> None:
    write_benchmarks(tmp_path / "published/asked", stand_in=stand_in)
    text = page(*two, open_run("published/asked", tmp_path))
    assert (STAND_IN in cells(text, "[asked]")[1]) == stand_in
    assert (module._EXPECTED_KINDS["perplexity"] in text) == stand_in
    assert ("own data: needle" in text) == stand_in


def test_tries_at_tiny_sizes_are_no_measurement_of_kernels(two: tuple[Run, Run], tmp_path: Path) -> None:
    write_kernel_run(tmp_path / "published/tiny", tiny=True, device="some CPU")
    text = page(*two, open_run("published/tiny", tmp_path))
    assert TINY_SIZES_NOTE in cells(text, "[tiny]")[1]
    assert module._EXPECTED_KINDS["kernel-speed"] in text


def test_a_page_is_on_all_that_is_published_or_refused(tmp_path: Path) -> None:
    arguments = ["figures", "smoke", "--page", str(tmp_path / "page.md"), "--results", str(tmp_path)]
    error = CliRunner().invoke(app, arguments).exception
    assert isinstance(error, ConfigError)
    assert "with --all-published and without --only" in str(error)
