"""The full model with its KV cache reduced at inference beside hybrids: table and claim, value by value."""

from pathlib import Path

import pandas as pd
import pytest

from longgen.reporting.claims import ledger
from longgen.reporting.kv_reductions import kv_reductions_markdown, kv_reductions_table
from longgen.reporting.report import write_report
from longgen.reporting.run import Run, open_run
from longgen.statistics import difference_interval, wilson_interval
from tests.reporting.fake_reductions import FOUND, KEPT, SAMPLES, write_reductions
from tests.reporting.fake_run import DEFAULTS, DEPTHS, TASKS, TRAINED, exact, kv_fraction, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("results")
    write_reductions(write_run(folder / "smoke"))
    return open_run("smoke", folder)


def trained(variant: str, task: str) -> float:
    number, which = list(DEFAULTS).index(variant), TASKS.index(task)
    depths = DEPTHS if task == "needle" else (0.5,)
    return sum(exact(number, which, TRAINED, depth) for depth in depths) / len(depths)


def test_the_table_has_hybrid_full_and_every_method_by_budget_and_task(run: Run) -> None:
    table = kv_reductions_table(run)
    groups = {key: list(rows["name"]) for key, rows in table.groupby(["budget_of", "task"], sort=False)}
    assert groups == {
        ("longgen-sink", "needle"): ["longgen-sink", "full", "snapkv", "tova"],
        ("longgen-sink", "multikey"): ["longgen-sink", "full", "snapkv", "tova"],
        ("longgen-stride", "needle"): ["longgen-stride", "full", "snapkv", "tova"],
    }
    for row in table.to_dict("records"):
        hybrid = trained(row["budget_of"], row["task"])
        if row["reduced"]:
            hits, n = sum(FOUND[row["budget_of"]][row["task"]][row["name"]]), SAMPLES * len(DEPTHS)
            assert (row["exact"], row["n"], row["kv_fraction"]) == (hits / n, n, KEPT[row["budget_of"]])
            assert (row["exact_low"], row["exact_high"]) == pytest.approx(wilson_interval(hits, n))
        else:
            assert row["exact"] == pytest.approx(trained(row["name"], row["task"]))
            assert row["kv_fraction"] == pytest.approx(kv_fraction(row["name"], TRAINED))
        if row["name"] == row["budget_of"]:
            assert pd.isna(row["behind_hybrid"])
        else:
            assert row["behind_hybrid"] == pytest.approx(hybrid - row["exact"])
            assert row["behind_hybrid_low"] < row["behind_hybrid"] < row["behind_hybrid_high"]


def test_a_row_of_the_text_has_all_tasks(run: Run) -> None:
    text = kv_reductions_markdown(run, kv_reductions_table(run))
    assert "a hybrid's after as many tokens as the row says, a method's after the prompt" in text, (
        "two lengths, two shares"
    )
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    heading, _, *rows = lines
    assert heading[4:] == [
        *("needle in a haystack", "needle in a haystack: hybrid ahead by"),
        *("multi-key needle", "multi-key needle: hybrid ahead by"),
    ]
    assert len(rows) == 8
    snapkv = rows[2]
    assert snapkv[:4] == ["2K", "LongGen (sink)", "full, reduced: SnapKV", "37.0 %"]
    assert snapkv[4].startswith("0.60 (")
    assert snapkv[6].startswith("0.15 (")
    assert rows[6][6:] == ["", ""], "not asked at this budget"
    assert "needle in a haystack, n = 20, 100; multi-key needle, n = 20" in text


def test_a_hybrid_that_was_not_evaluated_leaves_its_reductions_there(tmp_path: Path) -> None:
    folder = write_reductions(write_run(tmp_path / "smoke"))
    (folder / "benchmarks/longgen-stride/scores.json").unlink()
    table = kv_reductions_table(open_run("smoke", tmp_path))
    rows = table[table["budget_of"] == "longgen-stride"]
    assert list(rows["name"]) == ["full", "snapkv", "tova"]
    assert rows["behind_hybrid"].isna().all()


def test_the_claim_compares_with_the_best_method_of_the_hybrids_budget_on_needles(run: Run) -> None:
    rows = ledger([run]).set_index(["scale", "claim", "variant"]).loc[f"smoke @ {TRAINED}", "reductions-beaten"]
    for hybrid, best, n in (("longgen-sink", 12, 20), ("longgen-stride", 17, 20)):
        found, row = trained(hybrid, "needle"), rows.loc[hybrid]
        assert row["measured"] == pytest.approx(100 * (found - best / n))
        own = (found, *wilson_interval(round(found * 100), 100))
        interval = difference_interval(own, (best / n, *wilson_interval(best, n)))
        assert (row["interval_low"], row["interval_high"]) == pytest.approx((100 * interval[1], 100 * interval[2]))
        assert row["verdict"] == ("holds" if interval[1] >= 0 else "not shown")


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_only_a_run_that_has_them_gets_the_table(run: Run, tmp_path: Path) -> None:
    report = write_report(run, tmp_path, ["kv_reductions"])
    assert {path.name for path in report.files} == {"kv_reductions.csv", "kv_reductions.md"}
    plain = open_run("plain", write_run(tmp_path / "runs/plain").parent)
    for name in DEFAULTS:
        for kind in ("scores", "perplexity"):
            (plain.folder / f"benchmarks/{name}/{kind}.json").unlink()
    write_report(open_run("plain", tmp_path / "runs"), tmp_path)
    assert not (tmp_path / "kv_reductions.csv").exists()
