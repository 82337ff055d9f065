"""The ablation table: its columns, where its numbers come from, and that nothing predicted gets in."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from longgen.reporting.ablation import COLUMNS, ablation_markdown, ablation_table, best_values, readable_table
from longgen.reporting.run import Run, open_run
from longgen.statistics import wilson_interval
from tests.reporting.fake_run import ABLATION, DEPTHS, SAMPLES, STAGES, TRAINED, exact, kv_fraction, speedup, write_run


def test_columns() -> None:
    assert COLUMNS[:11] == [
        *("variant", "full_layers", "num_layers", "placement", "pattern", "length", "kv_fraction"),
        *("needle_exact", "needle_exact_low", "needle_exact_high", "needle_n"),
    ]
    assert {"multikey_exact", "variable_tracking_exact", "perplexity", "training_speedup"} <= set(COLUMNS)
    assert {"prefill_speedup", "decode_speedup", "prefill_speedup_low", "prefill_speedup_high"} <= set(COLUMNS)


def test_every_number_is_that_of_its_variant(ablation_run: Run) -> None:
    table = ablation_table(ablation_run)
    assert list(table.columns) == COLUMNS
    assert list(table["variant"]) == list(ABLATION)
    for number, row in enumerate(table.to_dict("records")):
        share = sum(exact(number, 0, TRAINED, depth) for depth in DEPTHS) / len(DEPTHS)
        assert row["needle_exact"] == pytest.approx(share)
        assert row["needle_n"] == SAMPLES * len(DEPTHS)
        interval = wilson_interval(round(share * row["needle_n"]), row["needle_n"])
        assert (row["needle_exact_low"], row["needle_exact_high"]) == pytest.approx(interval)
        assert row["multikey_exact"] == exact(number, 1, TRAINED, 0.5)
        assert row["variable_tracking_exact"] == exact(number, 2, TRAINED, 0.5)
        assert row["kv_fraction"] == kv_fraction(row["variant"], TRAINED)
        for stage_number, stage in enumerate(STAGES):
            assert row[f"{stage}_speedup"] == speedup(number, stage_number, TRAINED)
        nll = 1.15 + 0.4 * math.exp(-1920 / 200) + 0.017 * number * (1 + 1920 / TRAINED)
        assert row["perplexity"] == pytest.approx(math.exp(nll))
        assert row["perplexity_low"] == pytest.approx(math.exp(nll - 0.02))


def test_layers_are_described(ablation_run: Run) -> None:
    rows = ablation_table(ablation_run).set_index("variant")
    columns = ["full_layers", "num_layers", "placement", "pattern"]
    assert list(rows.loc["full", columns]) == [6, 6, "none", "none"]
    assert list(rows.loc["all-sparse", columns]) == [0, 6, "none", "sink"]
    assert list(rows.loc["longgen-stride", columns]) == [2, 6, "middle", "stride"]
    assert list(rows.loc["ends-1-3", columns]) == [2, 6, "ends", "sink"]


def test_what_was_not_measured_is_empty(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "smoke")
    (folder / "profile/memory.json").unlink()
    (folder / "benchmarks/longgen-sink/perplexity.json").unlink()
    shutil.rmtree(folder / "benchmarks/longgen-stride")
    rows = ablation_table(open_run("smoke", tmp_path)).set_index("variant")
    assert rows["kv_fraction"].isna().all(), "plan.json predicts it, but a prediction is not a measurement"
    assert pd.isna(rows.loc["longgen-sink", "perplexity"])
    assert not pd.isna(rows.loc["full", "perplexity"])
    assert rows.loc["longgen-stride", ["needle_exact", "needle_n", "multikey_exact"]].isna().all()
    assert rows.loc["longgen-stride", "prefill_speedup"] == speedup(2, 0, TRAINED)


def test_variants_without_any_measurement_have_no_row(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "smoke")
    for path in [*folder.glob("benchmarks/*/*.json"), *folder.glob("profile/*.json")]:
        if "benchmarks/full" not in str(path):
            path.unlink()
    table = ablation_table(open_run("smoke", tmp_path))
    assert list(table["variant"]) == ["full"]


def test_only_the_trained_length_counts(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "smoke")
    for name in ("speed", "memory"):
        path = folder / f"profile/{name}.json"
        path.write_text(path.read_text().replace('"length": 2048', '"length": 3072'))
    rows = ablation_table(open_run("smoke", tmp_path))
    assert rows[["kv_fraction", "prefill_speedup", "decode_speedup"]].isna().all().all()


def test_readable_table_marks_the_best_and_shows_intervals(run: Run) -> None:
    table = ablation_table(run)
    best = best_values(table)
    assert best["needle_exact"] == table["needle_exact"].max()
    assert best["kv_fraction"] == table["kv_fraction"].min()
    assert best["perplexity"] == table["perplexity"].min()
    readable = readable_table(table).set_index("variant")
    assert readable.loc["full", "needle"] == "**0.96 (0.90\u20130.98)**"
    assert readable.loc["longgen-sink", "needle"] == "0.91 (0.84\u20130.95)"
    assert readable.loc["all-sparse", "KV cache"] == "**6.2%**"
    assert readable.loc["longgen-sink", "full layers"] == "2/6 middle, sink"
    assert readable.loc["full", "prefill"] == "1.00", "no interval where there is none"
    for number, stage in enumerate(("prefill", "decode", "training")):
        assert readable.loc["longgen-sink", stage].startswith(f"{speedup(1, number, TRAINED):.2f} ("), stage
    assert readable.loc["longgen-sink", "perplexity"].startswith(f"{table['perplexity'].iloc[1]:.2f} (")


def test_markdown_says_what_it_shows(run: Run) -> None:
    text = ablation_markdown(run, ablation_table(run))
    assert "at 2K tokens" in text
    assert "Pretend Processor 9000" in text
    assert "n = 100" in text
    assert text.count("| longgen-") == 2
