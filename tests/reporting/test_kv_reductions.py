"""The full model with its KV cache reduced at inference beside a hybrid: table and claim, value by value."""

import json
from pathlib import Path

import pytest

from longgen.evaluation.baselines import METHODS
from longgen.evaluation.names import KV_REDUCTIONS
from longgen.reporting.claims import ledger
from longgen.reporting.kv_reductions import kv_reductions_markdown, kv_reductions_table
from longgen.reporting.measures import difference_interval
from longgen.reporting.report import write_report
from longgen.reporting.run import Run, open_run
from longgen.results import Result, save_result
from longgen.statistics import wilson_interval
from tests.reporting.fake_run import DEPTHS, TRAINED, exact, kv_fraction, write_run

FOUND = {"snapkv": [2, 3, 1, 4, 2], "tova": [0, 0, 1, 0, 3]}  # of 4 needles at each depth


@pytest.fixture
def run(tmp_path: Path) -> Run:
    folder = write_run(tmp_path / "smoke")
    origin = json.loads((folder / "plan.json").read_text())["provenance"]
    for method, hits in FOUND.items():
        records = []
        for depth, count in zip(DEPTHS, hits, strict=True):
            low, high = wilson_interval(count, 4)
            cell = {"task": "needle", "length": TRAINED, "depth": depth, "n": 4, "exact": count / 4}
            named = {"method": method, "budget_of": "longgen-sink", "kv_fraction": 0.37}
            records.append(named | cell | {"exact_low": low, "exact_high": high})
        save_result(folder / f"kv-reduction/{method}.json", Result("kv-reduction", "smoke", records, origin))
    return open_run("smoke", tmp_path)


def hybrid_and_full() -> list[float]:
    return [sum(exact(number, 0, TRAINED, depth) for depth in DEPTHS) / len(DEPTHS) for number in (1, 0)]


def test_the_table_has_every_method_beside_the_models_that_were_trained(run: Run) -> None:
    table = kv_reductions_table(run).set_index("name")
    hybrid, full = hybrid_and_full()
    assert set(table.index) == {"full", "longgen-sink", *FOUND}
    assert list(table["exact"]) == sorted(table["exact"], reverse=True)
    assert table.loc["longgen-sink", "exact"] == pytest.approx(hybrid)
    assert table.loc["full", "exact"] == pytest.approx(full)
    assert table.loc["longgen-sink", "kv_fraction"] == pytest.approx(kv_fraction("longgen-sink", TRAINED))
    assert table.loc["longgen-sink", ["behind_hybrid"]].isna().all()
    for method, hits in FOUND.items():
        row = table.loc[method]
        assert (row["exact"], row["n"], row["kv_fraction"]) == (sum(hits) / 20, 20, 0.37)
        assert (row["exact_low"], row["exact_high"]) == pytest.approx(wilson_interval(sum(hits), 20))
        assert row["behind_hybrid"] == pytest.approx(hybrid - sum(hits) / 20)
        assert row["behind_hybrid_low"] < row["behind_hybrid"] < row["behind_hybrid_high"]
    text = kv_reductions_markdown(run, kv_reductions_table(run))
    assert "full, reduced: snapkv" in text
    assert "LongGen (sink)" in text
    assert "37.0 %" in text


def test_the_claim_compares_with_the_best_method(run: Run) -> None:
    rows = ledger([run]).set_index(["scale", "claim", "variant"]).loc[f"smoke @ {TRAINED}", "reductions-beaten"]
    hybrid, _ = hybrid_and_full()
    best = sum(FOUND["snapkv"]) / 20
    row = rows.loc["longgen-sink"]
    assert row["measured"] == pytest.approx(100 * (hybrid - best))
    interval = difference_interval(
        (hybrid, *wilson_interval(round(hybrid * 100), 100)), (best, *wilson_interval(12, 20))
    )
    assert (row["interval_low"], row["interval_high"]) == pytest.approx((100 * interval[1], 100 * interval[2]))
    assert row["verdict"] == ("reproduced" if interval[1] >= 0 else "not reached")
    assert rows.loc["longgen-stride", "verdict"] == "not measured", "another budget"


def test_only_a_run_that_has_them_gets_the_table(run: Run, tmp_path: Path) -> None:
    report = write_report(run, tmp_path / "with")
    assert {path.name for path in report.written} >= {"kv_reductions.csv", "kv_reductions.md", "needle.png"}
    plain = open_run("plain", write_run(tmp_path / "plain").parent)
    write_report(plain, tmp_path / "with")
    assert not (tmp_path / "with" / "kv_reductions.csv").exists()


def test_the_configuration_knows_the_methods() -> None:
    assert tuple(KV_REDUCTIONS) == tuple(METHODS)
