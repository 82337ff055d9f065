"""What an experiment sees of its benchmarks: figures, tables and claims are made of recall, or of needles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from longgen.errors import ArtifactError
from longgen.reporting.claims import own_rows
from longgen.reporting.figures import pareto, perplexity
from longgen.reporting.measures import own_perplexity
from longgen.reporting.paper import paper_claims
from longgen.reporting.run import Run, open_run
from tests.reporting.fake_benchmarks import BUDGET_OF, DEPTHS, LENGTHS, SAMPLES, exact, nll, write_benchmarks
from tests.reporting.fake_run import TRAINED, recalled, write_experiment, write_run


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: asked (benchmarks' own data), stand-ins (stand-in data)."""
    folder = tmp_path_factory.mktemp("pretrained")
    for name, stand_in in (("asked", False), ("stand-ins", True)):
        write_benchmarks(write_experiment(folder / name), name, stand_in=stand_in)
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
    rows = own_perplexity(asked)
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
    assert not any(map(run.has, ("retrieval", "kv-reduction")))
    assert own_perplexity(run).empty


def test_recall_comes_first(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "both")
    own = (folder / "benchmarks/full/scores.json").read_text()
    write_benchmarks(folder, "both", stand_in=False)
    (folder / "benchmarks/full/recall.json").write_text(own)
    run, alone = open_run("both", tmp_path), open_run("alone", write_run(tmp_path / "alone").parent)
    rows = alone.frame("retrieval")
    assert run.frame("retrieval")[lambda rows: rows["variant"] == "full"].equals(rows[rows["variant"] == "full"])
    assert not run.has("kv-reduction"), "of other prompts than the retrieval"


def test_a_cell_has_what_every_sample_gave(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "smoke")
    value = json.loads((folder / "benchmarks/full/scores.json").read_text())
    cell = {"task": "multivalue", "length": 512, "depth": 0.5, "n": 3, "parts_given": "402"}
    cell |= {f"{metric}{end}": 0.5 for metric in ("exact", "share") for end in ("", "_low", "_high")}
    needle = cell | {"task": "needle", "parts_given": "101"}
    for kept in ({}, {"method": "tova", "budget_of": "longgen-sink"}):
        shares = [0.3, 0.31] if kept else [None, None]
        value["records"] = [
            row
            for each, share in zip((cell, needle), shares, strict=True)
            for row in recalled([each], kv_fraction=share, **kept)
        ]
        (folder / f"benchmarks/full/{len(kept)}.json").write_text(json.dumps(value))
    (folder / "benchmarks/full/scores.json").unlink()
    run = open_run("smoke", tmp_path)
    retrieval, reduced = run.frame("retrieval"), run.frame("kv-reduction")
    own = retrieval[retrieval["variant"] == "full"]
    assert list(own["parts_given"]) == list(reduced["parts_given"]) == ["402", "101"]
    assert list(own["parts"]) == [4, 1]
    assert set(reduced["kv_fraction"]) == {0.31}, "the largest over tasks, whose prompts differ by the answer's length"


def test_a_record_without_a_column_is_named(tmp_path: Path) -> None:
    path = write_run(tmp_path / "smoke") / "benchmarks/full/scores.json"
    value = json.loads(path.read_text())
    del value["records"][0]["metric"]
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=r"scores\.json: column 'metric' is missing; see docs/results-format"):
        open_run("smoke", tmp_path)


def test_without_a_plan_there_is_no_experiment(tmp_path: Path) -> None:
    run = open_run("benchmarked", write_benchmarks(tmp_path / "benchmarked", stand_in=False).parent)
    assert not run.has("retrieval")
    assert run.subjects == ("benchmarks",)
