"""Benchmarks of an experiment that has no evaluation of its own: its figures, tables and claims are made of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from longgen.reporting.claims import own_rows
from longgen.reporting.figures import pareto, perplexity
from longgen.reporting.paper import paper_claims
from longgen.reporting.run import Run, open_run
from tests.reporting.fake_benchmarks import BUDGET_OF, DEPTHS, LENGTHS, SAMPLES, exact, nll, write_benchmarks
from tests.reporting.fake_run import TRAINED, write_run


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: asked (benchmarks' own data), stand-ins (stand-in data)."""
    folder = tmp_path_factory.mktemp("pretrained")
    for name, stand_in in (("asked", False), ("stand-ins", True)):
        write_run(folder / name)
        shutil.rmtree(folder / name / "evaluation")
        write_benchmarks(folder / name, name, stand_in=stand_in)
    return folder


@pytest.fixture(scope="module")
def asked(pretrained: Path) -> Run:
    return open_run("asked", pretrained)


def test_needles_that_differ_are_the_retrieval(asked: Run) -> None:
    rows = asked.frame("retrieval")
    assert set(rows["variant"]) == {"full", BUDGET_OF}
    assert len(rows) == 2 * len(LENGTHS) * len(DEPTHS)
    for row in rows.to_dict("records"):
        model = ("full", BUDGET_OF).index(row["variant"])
        assert row["task"] == "needle"
        assert row["exact"] == exact(model, "keys", row["length"], row["depth"])
        assert row["exact_low"] <= row["exact"] <= row["exact_high"]
        assert row["n"] == SAMPLES
    assert asked.days("retrieval") == asked.days("benchmark") != ""


def test_reduced_caches_are_apart(asked: Run) -> None:
    rows = asked.frame("kv-reduction")
    assert set(rows["method"]) == {"h2o", "snapkv"}
    assert set(rows["budget_of"]) == {BUDGET_OF}
    assert len(rows) == 2 * len(LENGTHS) * len(DEPTHS)


def test_long_text_is_the_perplexity(asked: Run) -> None:
    rows = asked.frame("perplexity")
    for variant, number in (("full", 0), (BUDGET_OF, 1)):
        chosen = rows["variant"] == variant
        assert rows[chosen]["nll"].to_list() == pytest.approx(
            [nll(number, place) for place in rows[chosen]["position_start"]]
        )
    assert len(perplexity.draw(asked).data) == len(rows)


def test_claims_and_figures_are_made_of_them(asked: Run) -> None:
    rows = {(row.claim, row.variant): row for row in own_rows(asked, paper_claims())}
    measured = {claim for (claim, _), row in rows.items() if row.measured is not None}
    assert {"retrieval-kept", "reductions-beaten"} <= measured
    drawn = pareto.pareto_data(asked).set_index("variant")
    share = sum(exact(1, "keys", TRAINED, depth) for depth in DEPTHS) / len(DEPTHS)
    assert drawn.loc[BUDGET_OF, "needle_exact"] == pytest.approx(share)


def test_stand_ins_are_no_evidence(pretrained: Path) -> None:
    run = open_run("stand-ins", pretrained)
    assert not any(map(run.has, ("retrieval", "kv-reduction", "perplexity")))


def test_an_evaluation_of_its_own_comes_first(tmp_path: Path) -> None:
    write_benchmarks(write_run(tmp_path / "both"), "both", stand_in=False)
    run = open_run("both", tmp_path)
    alone = open_run("alone", write_run(tmp_path / "alone").parent)
    for kind in ("retrieval", "perplexity"):
        assert run.frame(kind).equals(alone.frame(kind))
    assert not run.has("kv-reduction"), "of other prompts than the retrieval"


def test_without_a_plan_there_is_no_experiment(tmp_path: Path) -> None:
    run = open_run("benchmarked", write_benchmarks(tmp_path / "benchmarked", stand_in=False).parent)
    assert not run.has("retrieval")
    assert run.subjects == ("benchmarks",)
