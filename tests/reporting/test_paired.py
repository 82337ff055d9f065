"""Perplexity against full attention's: pairs shrink the interval, and only the same documents are pairs."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from longgen.errors import ArtifactError
from longgen.reporting.ablation import ablation_markdown, ablation_table
from longgen.reporting.paired import (
    DIFFERENCE,
    NOT_STORED,
    ONE_DOCUMENT,
    OTHER_DOCUMENTS,
    OVER_FULL,
    UNPAIRED,
    with_difference,
)
from longgen.reporting.run import Run
from longgen.results import Result
from longgen.statistics import bootstrap_interval, difference_interval
from tests.reporting.fake_run import DEFAULTS
from tests.reporting.test_figures import draw, panels

DOCUMENTS = 40
TEXT = "made-up fingerprint"


def with_documents(run: Run, documents: int = DOCUMENTS) -> Run:
    """``run`` with losses of documents that differ far more from each other than models do."""
    generator = np.random.default_rng(1)
    shared = generator.normal(0, 0.5, documents)

    def stored(record: dict) -> dict:
        own = generator.normal(0, 0.01, documents)
        losses = record["nll"] + shared + own - (shared + own).mean()
        low, high = bootstrap_interval(losses)
        return record | {"n": documents, "nll_low": low, "nll_high": high, "nll_by_document": losses.tolist()}

    return each_of(run, lambda r: [stored(record) for record in r.records], TEXT)


def each_of(run: Run, records, text: str | None, variant: str | None = None) -> Run:
    """``run`` with other records and fingerprint of perplexity: of one variant, or of all."""
    results: list[Result] = []
    for result in run.results:
        if result.kind == "perplexity" and variant in (None, result.variant):
            inputs = {"inputs": {"text": text} if text else {}}
            result = dataclasses.replace(result, records=records(result), provenance=result.provenance | inputs)
        results.append(result)
    return Run(run.name, run.folder, results)


def without_lists(result: Result) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "nll_by_document"} for row in result.records]


def note(run: Run) -> str:
    return " ".join(draw("perplexity", run).figure.texts[1].get_text().split())


def bands(run: Run) -> int:
    return len(panels(draw("perplexity", run).figure)[1].collections)


def test_pairs_shrink_the_interval(run: Run) -> None:
    paired = with_documents(run)
    rows = with_difference(paired, paired.frame("perplexity"))
    full = rows[rows["variant"] == "full"].reset_index(drop=True)
    assert full[OVER_FULL].eq(0).all() and full[f"{OVER_FULL}_low"].isna().all()
    assert rows[UNPAIRED].eq("").all()
    for name in set(DEFAULTS) - {"full"}:
        for row, base in zip(rows[rows["variant"] == name].to_dict("records"), full.to_dict("records"), strict=True):
            low, high = (row[f"{OVER_FULL}_{end}"] for end in ("low", "high"))
            assert low < row[OVER_FULL] < high
            assert row[OVER_FULL] == pytest.approx(row["perplexity"] / base["perplexity"] - 1)
            _, *ends = difference_interval(*((x["nll"], x["nll_low"], x["nll_high"]) for x in (row, base)))
            unpaired = math.expm1(ends[1]) - math.expm1(ends[0])
            assert 0 < high - low < unpaired / 10, "the spread of documents, which is 50 times a model's, is not in it"


def test_the_interval_by_hand(run: Run) -> None:
    """Two documents: of 2,000 resamples a quarter are of either alone, so that the ends are these."""
    run = with_documents(run, 2)
    losses = {"full": [1.0, 3.0], "longgen-sink": [1.1, 3.3], "longgen-stride": [1.1, 3.3], "all-sparse": [3.3, 1.1]}
    run = each_of(run, lambda r: [x | {"nll_by_document": losses[r.variant]} for x in r.records], TEXT)
    rows = with_difference(run, run.frame("perplexity")).groupby("variant").first()
    ends = [f"{OVER_FULL}_low", f"{OVER_FULL}_high"]
    assert list(rows.loc["longgen-sink", ends]) == pytest.approx([math.expm1(0.1), math.expm1(0.3)])
    assert list(rows.loc["all-sparse", ends]) == pytest.approx([math.expm1(-1.9), math.expm1(2.3)]), "in their order"


def test_the_figure_has_a_band_per_variant_and_says_what_it_is(run: Run) -> None:
    paired = with_documents(run)
    drawing = draw("perplexity", paired)
    right = panels(drawing.figure)[1]
    hybrids = [name for name in DEFAULTS if name != "full"]
    assert len(right.collections) == len(hybrids)
    for band, name in zip(right.collections, hybrids, strict=True):
        rows = drawing.data[drawing.data["variant"] == name]
        heights = band.get_paths()[0].vertices[:, 1]
        expected = 100 * rows[f"{OVER_FULL}_low"].min(), 100 * rows[f"{OVER_FULL}_high"].max()
        assert (heights.min(), heights.max()) == pytest.approx(expected)
    said = note(paired)
    assert "band: 95 % interval of the difference, paired by document" in said
    assert "not in the results" not in said


def test_other_documents_are_not_paired(run: Run) -> None:
    other = each_of(with_documents(run), lambda r: r.records, "another text", "longgen-sink")
    rows = with_difference(other, other.frame("perplexity")).set_index("variant")
    assert rows.loc["longgen-sink", UNPAIRED].eq(OTHER_DOCUMENTS).all()
    assert rows.loc["longgen-sink", f"{OVER_FULL}_low"].isna().all()
    assert rows.loc["longgen-stride", f"{OVER_FULL}_low"].notna().all()
    assert bands(other) == 2
    said = note(other)
    assert "paired by document right: not the documents" in said
    assert "so not paired, and without an interval (LongGen (sink))" in said
    assert "without an interval (2 of 3)" in note(each_of(other, lambda r: r.records, "another text", "all-sparse"))


def test_another_number_of_documents_is_not_paired(run: Run) -> None:
    stored = with_documents(run)
    fewer = each_of(
        stored,
        lambda r: [x | {"n": 39, "nll_by_document": x["nll_by_document"][:39]} for x in r.records],
        TEXT,
        "full",
    )
    assert bands(fewer) == 0
    assert "paired by document" not in note(fewer)
    assert set(with_difference(fewer, fewer.frame("perplexity"))[UNPAIRED]) == {"", OTHER_DOCUMENTS}


def test_documents_without_a_fingerprint_are_not_paired(run: Run) -> None:
    unknown = each_of(with_documents(run), lambda r: r.records, None, "full")
    assert bands(unknown) == 0
    assert set(with_difference(unknown, unknown.frame("perplexity"))[UNPAIRED]) == {"", NOT_STORED}


@pytest.mark.parametrize("stored", [False, True])
def test_results_of_before_have_no_band_and_say_so(run: Run, stored: bool) -> None:
    """Of all variants, and of one beside those of now: pandas then has NaN where a list is expected."""
    former = run if not stored else each_of(with_documents(run), without_lists, TEXT, "all-sparse")
    assert bands(former) == (2 if stored else 0)
    said = note(former)
    assert "its interval is not in the results" in said
    assert ("(all layers sparse)" in said) == stored
    lists = former.frame("perplexity").groupby("variant")["nll_by_document"].first()
    assert lists["all-sparse"] is None
    data = draw("perplexity", former).data
    assert data[OVER_FULL].notna().all()
    assert data[data["variant"] == "all-sparse"][f"{OVER_FULL}_high"].isna().all()


def test_one_document_has_no_interval(run: Run) -> None:
    single = with_documents(run, 1)
    assert bands(single) == 0
    assert "of one document, so without an interval" in note(single)
    assert set(with_difference(single, single.frame("perplexity"))[UNPAIRED]) == {"", ONE_DOCUMENT}


@pytest.mark.parametrize("losses", [[1.0], "1.0", [None] * DOCUMENTS])
def test_losses_that_are_no_list_of_the_documents_are_refused(run: Run, losses: object) -> None:
    broken = each_of(
        with_documents(run), lambda r: [x | {"nll_by_document": losses} for x in r.records], TEXT, "longgen-sink"
    )
    with pytest.raises(ArtifactError, match=r"column 'nll_by_document' holds something that is no list of n numbers"):
        broken.frame("perplexity")


def test_benchmarks_without_an_experiment_are_compared_likewise(benchmark_run: Run) -> None:
    assert "its interval is not in the results" in note(benchmark_run)
    paired = with_documents(benchmark_run)
    assert bands(paired) == 1
    assert "paired by document" in note(paired)


def test_the_ablation_table_has_paired_differences_alone(run: Run) -> None:
    """Of other documents there is none; without any there is no column to read."""
    assert ablation_table(run)[OVER_FULL].isna().all()
    assert "perplexity over full" not in ablation_markdown(run, ablation_table(run))
    other = each_of(with_documents(run), lambda r: r.records, "another text", "longgen-sink")
    table = ablation_table(other)
    known = table.set_index("variant")[f"{OVER_FULL}_low"].notna()
    assert list(known[known].index) == ["longgen-stride", "all-sparse"]
    assert list(table[OVER_FULL].notna()) == [True, False, True, True]
    drawn = draw("perplexity", other).data
    last = drawn[drawn["position_end"] == drawn["position_end"].max()].set_index("variant")
    for name, row in table.set_index("variant")[known].iterrows():
        assert list(row[DIFFERENCE]) == pytest.approx(list(last.loc[name, DIFFERENCE]))
    markdown = ablation_markdown(other, table)
    assert "| perplexity over full " in markdown and "paired by document" in markdown
    assert "| **+0.0%** " in markdown, "full attention is the best one"
    low, high = (f"{last.loc['all-sparse', f'{OVER_FULL}_{end}']:+.1%}" for end in ("low", "high"))
    assert f"({low} to {high})" in markdown
