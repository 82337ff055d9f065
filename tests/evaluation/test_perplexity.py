"""Perplexity by position on long text: exact in pieces, resumed to the document, and honest about its text."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from longgen.config import DataSettings
from longgen.data.packing import readers
from longgen.data.sources import SourceSettings
from longgen.data.synthetic.corpus import build_corpus, load_corpus
from longgen.data.synthetic.vocabulary import BOS_ID
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation import likelihood
from longgen.evaluation.likelihood import bin_edges, bin_means, check_model, position_records, token_nll
from longgen.evaluation.perplexity import measure
from longgen.evaluation.perplexity.documents import DATASET, long_rows, open_text, read_rows
from longgen.evaluation.perplexity.measure import measure_documents
from longgen.pattern import SparsePattern
from tests.commands import longgen
from tests.evaluation.ruler_data import small_tokenizer
from tests.modeling.models import save_byte_model, tiny_base, tiny_hybrid, tokens

MODELS = {
    "hybrid": lambda: tiny_hybrid("llama", "middle:1/3", SparsePattern(8, 1, 2, 4)),
    "heads": lambda: tiny_hybrid("qwen3", "heads:1/3", SparsePattern(8, 1, 3)),
    "plain": lambda: tiny_base("qwen2"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model of bytes."""
    return save_byte_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_pieces_give_what_whole_logits_give(kind, monkeypatch):
    model, row = MODELS[kind](), tokens(201)
    logits = model(input_ids=row[:, :-1], use_cache=False).logits
    expected = -logits.log_softmax(-1).gather(-1, row[:, 1:, None])[..., 0]
    torch.testing.assert_close(token_nll(model, row), expected)
    monkeypatch.setattr(likelihood, "HEAD_TOKENS", 7)
    read = []
    for prefill_tokens in (64, 37, 199):
        torch.testing.assert_close(token_nll(model, row, prefill_tokens, read.append), expected, atol=2e-5, rtol=1e-5)
    assert sum(read) == 3 * 2 * 200


def test_logits_and_hidden_states_never_exist_for_more_than_a_piece(monkeypatch):
    model = tiny_hybrid()
    monkeypatch.setattr(likelihood, "HEAD_TOKENS", 16)
    heads, bodies = [], []
    model.lm_head.register_forward_hook(lambda module, given, made: heads.append(made.shape))
    model.model.register_forward_hook(lambda module, given, made: bodies.append(made.last_hidden_state.shape[1]))
    token_nll(model, tokens(301, batch=1), prefill_tokens=64)
    assert bodies == [64, 64, 64, 64, 44]
    assert max(shape[0] for shape in heads) == 16


def test_a_token_taken_for_impossible_keeps_the_result_finite():
    model = tiny_base()
    with torch.no_grad():
        model.lm_head.weight.mul_(1e5)
    assert token_nll(model, tokens(50)).max() == likelihood.MAX_NLL


def test_only_families_whose_logits_are_a_product_are_served():
    model = tiny_base()
    model.config.model_type = "gemma2"  # which squashes logits
    with pytest.raises(ConfigError, match="model_type is 'gemma2': allowed is llama, mistral"):
        check_model(model)


def test_bins_and_records_by_hand():
    edges = bin_edges(5, 2)
    assert edges == [0, 2, 5]
    means = bin_means(np.array([[1.0, 3.0, 6.0, 6.0, 9.0], [0.0, 0.0, 3.0, 3.0, 3.0]]), edges)
    assert means.tolist() == [[2.0, 7.0], [0.0, 3.0]]
    first, last = position_records(means, edges, 0)
    assert (first["position_start"], first["position_end"], first["n"], first["nll"]) == (0, 2, 2, 1.0)
    assert (last["position_start"], last["position_end"], last["nll"]) == (2, 5, 5.0)
    assert (first["nll_by_document"], last["nll_by_document"]) == ([2.0, 0.0], [7.0, 3.0])
    assert last["perplexity"] == pytest.approx(math.exp(5))
    assert (last["nll_low"], last["nll_high"]) == (3.0, 7.0)


# ------------------------------------------------------------ text


def rows_of(text, tokenizer, length, count):
    return long_rows(open_text(text, length, 0), tokenizer, length, count)


def test_rows_are_the_beginnings_of_documents_that_are_long_enough(tmp_path, tokenizer):
    for name, text in {"a": "abcdefgh", "b": "too s", "c": "ABCDEF", "d": "12345678"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
    rows = rows_of(str(tmp_path), tokenizer, 6, 2)
    assert rows.short == 1
    assert rows.tokens[:, 0].tolist() == [BOS_ID] * 2
    assert [bytes(row[1:].tolist()).decode() for row in rows.tokens] == ["abcdef", "ABCDEF"]
    with pytest.raises(
        ConfigError, match=r"--documents is 4: allowed is at most 3, so many of the 4 documents .* 6 tok"
    ):
        rows_of(str(tmp_path), tokenizer, 6, 4)
    without = AutoTokenizer.from_pretrained(tokenizer.name_or_path, bos_token=None)
    assert bytes(rows_of(str(tmp_path), without, 6, 1).tokens[0].tolist()).decode() == "abcdefg"


def test_text_that_spells_a_special_token_stays_text(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("x</s>y")
    assert rows_of(str(tmp_path), tokenizer, 6, 1).tokens.tolist() == [[BOS_ID, *b"x</s>y"]]


def test_json_lines_are_documents(tmp_path, tokenizer):
    path = tmp_path / "books.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in ("first", "second", "third one")))
    opened = open_text(str(path), 6, 0)
    assert (opened.source, opened.stand_in) == ("books.jsonl", False)
    assert long_rows(opened, tokenizer, 6, 2).short == 1
    path.write_text('{"text": "first book"}\n{"title": "none"}\n')
    with pytest.raises(ArtifactError, match=r"books.jsonl, line 2: field text is missing"):
        rows_of(str(path), tokenizer, 6, 2)


def test_the_stand_in_fills_any_number_of_documents_that_differ(tokenizer):
    opened = open_text(None, 3000, 1)
    assert opened.stand_in
    rows = long_rows(opened, tokenizer, 3000, 30)
    assert rows.short == 0
    assert len({row.tobytes() for row in rows.tokens}) == 30
    assert (rows_of(None, tokenizer, 3000, 3).tokens != rows.tokens[:3]).any(), "another seed, another order"


def test_the_hub_is_asked_for_the_test_split_and_named(monkeypatch, tokenizer):
    asked = []

    class Datasets:
        @staticmethod
        def load_dataset(**arguments):
            asked.append(arguments)
            return [{"text": "A book of PG-19"}]

    monkeypatch.setattr(readers, "data_package", lambda name: Datasets)
    monkeypatch.setattr(readers._StreamReader, "state", lambda self: {})
    opened = open_text("hub:", 6, 0)
    assert (opened.source, opened.stand_in) == (f"PG-19 test (hub:{DATASET})", False)
    assert long_rows(opened, tokenizer, 6, 1).tokens.shape == (1, 7)
    assert asked == [{"streaming": True, "path": DATASET, "name": None, "split": "test", "revision": None}]
    other = open_text("hub:someone/books@abc", 6, 0)
    assert other.source == "hub:someone/books@abc, test"
    next(other.documents)
    assert (asked[1]["path"], asked[1]["revision"]) == ("someone/books", "abc")


def test_text_that_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"--text is '.*', which is none: allowed are .txt or .jsonl"):
        open_text(str(tmp_path), 6, 0)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.jsonl").write_text("{}")
    with pytest.raises(ConfigError, match="which is both"):
        open_text(str(tmp_path), 6, 0)
    with pytest.raises(ConfigError, match="which is none"):
        open_text("/nowhere/at/all", 6, 0)


# ------------------------------------------------------------ going on


@pytest.fixture
def counted(monkeypatch):
    """The rows that were computed, by their second token; the model dies where ``fails`` says so."""

    class Counted(list):
        fails: int | None = None

    seen = Counted()

    def fake(model, row, prefill_tokens, advance):
        if len(seen) == seen.fails:
            raise KeyboardInterrupt
        seen.append(int(row[0, 1]))
        return row[:, 1:].float() / 100

    monkeypatch.setattr(measure, "token_nll", fake)
    return seen


class Anything:
    device = torch.device("cpu")


def test_an_interrupted_run_computes_no_document_twice(tmp_path, counted):
    rows, work = np.arange(60).reshape(6, 10), tmp_path / "run" / "work.jsonl"
    counted.fails = 4
    with pytest.raises(KeyboardInterrupt):
        measure_documents(Anything, rows, 3, {"model": "a"}, work, "x")
    counted.fails = None
    with work.open("a") as file:  # as a kill in the middle of writing leaves it
        file.write('{"tokens": "')
    means = measure_documents(Anything, rows, 3, {"model": "a"}, work, "x")
    assert counted == [1, 11, 21, 31, 41, 51]
    assert means == pytest.approx(bin_means(rows[:, 1:] / 100, [0, 3, 6, 9]), rel=1e-6)
    assert (measure_documents(Anything, rows, 3, {"model": "a"}, work, "x") == means).all()
    assert len(counted) == 6
    # more documents: only the new ones; other bins, tokens or weights: all
    measure_documents(Anything, np.arange(80).reshape(8, 10), 3, {"model": "a"}, work, "x")
    assert counted[6:] == [61, 71]
    measure_documents(Anything, rows[:1], 2, {"model": "a"}, work, "x")
    measure_documents(Anything, rows[:1], 3, {"model": "b"}, work, "x")
    measure_documents(Anything, rows[:1, :9], 3, {"model": "a"}, work, "x")
    assert len(counted) == 11
    assert (measure_documents(Anything, rows, 3, {"model": "a"}, work, "x") == means).all()
    assert len(counted) == 11


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_losses_that_are_no_numbers_are_refused(tmp_path, value):
    model = tiny_base()
    model.model.embed_tokens.weight.data[60] = value
    rows = np.arange(40).reshape(2, 20) + 30  # the token is at position 10 of the second, in the piece from 8 on
    with pytest.raises(
        ArtifactError, match=r"document 2 of 2: .*: the loss is not a number from position 8 on: .*damaged$"
    ):
        measure_documents(model, rows, 1, {}, tmp_path / "w.jsonl", "x", prefill_tokens=4)
    assert len((tmp_path / "w.jsonl").read_text().splitlines()) == 1, "the first document's loss is kept"


def test_a_known_distribution_by_position():
    """A model that gives the right token probability 1/2 in the first half of the context and 1/8 in the second."""

    class Known:
        lm_head = torch.nn.Identity()  # the hidden states are logits
        config = SimpleNamespace()

        def model(self, input_ids, past_key_values, use_cache):
            # the next token is a function of the last, so that the model can know it
            targets = (input_ids + 1) % 256
            length = input_ids.shape[1]
            share = torch.where(torch.arange(length) < length // 2, 0.5, 0.125)[None, :, None]
            probabilities = ((1 - share) / 259).expand(*input_ids.shape, 260).clone()
            probabilities.scatter_(2, targets[..., None], share.expand(*input_ids.shape, 1))
            return SimpleNamespace(last_hidden_state=probabilities.log())

    rows = (torch.arange(513) + torch.arange(4)[:, None] * 7) % 256
    edges = bin_edges(512, 4)
    records = position_records(bin_means(token_nll(Known(), rows).numpy(), edges), edges, 0)
    assert [(r["position_start"], r["position_end"]) for r in records] == [(0, 128), (128, 256), (256, 384), (384, 512)]
    assert [r["perplexity"] for r in records] == pytest.approx([2, 2, 8, 8], rel=1e-4)
    assert all(r["n"] == 4 and r["nll_low"] <= r["nll"] <= r["nll_high"] for r in records)


def test_of_a_corpus_excerpts_of_held_out_text_are_read(tmp_path, tokenizer):
    for number in range(40):
        (tmp_path / f"{number:02}.txt").write_text(f"Document {number} tells of {'this and ' * 8}{number}.")
    corpus = tmp_path / "corpus"
    build_corpus(DataSettings([SourceSettings("text", str(tmp_path))], heldout_fraction=0.5), corpus)
    heldout = load_corpus(corpus).heldout
    rows = read_rows(str(corpus), tokenizer, 200, 5, seed=3)
    assert (rows.source, rows.stand_in, rows.short, rows.bos) == ("held-out text", False, 0, False)
    assert rows.tokens.shape == (5, 201) and rows.tokens.dtype == np.int64
    whole = heldout.astype(np.int64).tobytes()
    assert all(whole.count(row.tobytes()) for row in rows.tokens), "as the text has them, ends of documents included"
    assert len({row.tobytes() for row in rows.tokens}) == 5
    assert (read_rows(str(corpus), tokenizer, 200, 5, seed=3).tokens == rows.tokens).all()
    assert not (read_rows(str(corpus), tokenizer, 200, 5, seed=4).tokens == rows.tokens).all()
    with pytest.raises(ConfigError, match=rf"--length is 99999: allowed is less than the {len(heldout)} tokens"):
        read_rows(str(corpus), tokenizer, 99999, 5, seed=3)
    with pytest.raises(ConfigError, match=r"tokenizer is .*: allowed is that of a corpus"):
        read_rows(str(corpus), small_tokenizer(), 200, 5, seed=3)


@pytest.mark.parametrize("max_length", [256, 4096])
def test_beyond_the_length_that_a_config_says_nothing_changes(max_length):
    """Lengths beyond the one that was trained at are allowed and measured."""
    model, row = tiny_hybrid("llama", "middle:1/3", SparsePattern(8, 1, 4)), tokens(513)
    expected = token_nll(model, row)
    model.config.max_position_embeddings = max_length
    assert torch.equal(token_nll(model, row), expected)
    assert expected.isfinite().all()


# ------------------------------------------------------------ command line


def test_a_result_of_the_contract(tmp_path, folder):
    result = tmp_path / "results" / "x" / "benchmarks" / "v" / "perplexity.json"
    asked = [folder, "--result", result, "--run", "x", "--variant", "v", "--length", 300, "--bins", 3]
    printed = longgen("perplexity", *asked, "--documents", 4)
    assert "no benchmark's perplexity" in printed
    written = json.loads(result.read_text())
    assert (written["kind"], written["run"], written["variant"]) == ("perplexity", "x", "v")
    assert written["settings"] | {"bos": True, "documents": 4, "documents_too_short": 0} == written["settings"]
    columns = ["source", "position_start", "position_end", "n", "nll", "nll_low", "nll_high", "perplexity"]
    columns += ["nll_by_document", "stand_in"]
    for record, start in zip(written["records"], (0, 100, 200), strict=True):
        assert list(record) == columns
        assert (record["position_start"], record["position_end"], record["n"]) == (start, start + 100, 4)
        assert record["stand_in"] is True
        assert record["nll_low"] <= record["nll"] <= record["nll_high"]
    work = result.with_suffix(".documents.jsonl")
    before = work.read_text()
    by_bin = zip(*(json.loads(line)["nll"] for line in before.splitlines()), strict=True)
    assert [record["nll_by_document"] for record in written["records"]] == [list(losses) for losses in by_bin]
    longgen("perplexity", *asked, "--documents", 5)
    assert work.read_text().startswith(before)
    assert len(work.read_text().splitlines()) == 5
    text = tmp_path / "own.txt"
    text.write_text("my own text " * 40)
    assert "1 documents of own.txt" in longgen("perplexity", *asked, "--documents", 1, "--text", text)
    records = json.loads(result.read_text())["records"]
    assert {(record["source"], record["stand_in"]) for record in records} == {("own.txt", False)}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dtype", "int8"], "--dtype is 'int8': allowed are bfloat16, float16, float32"),
        (["--length", 4, "--bins", 5], "--bins is 5: allowed is 1..4"),
        (["--text", "/nowhere"], "--text is '/nowhere', which is none"),
        (["--run", "No Name"], "name is 'No Name'"),
    ],
)
def test_bad_input(folder, tmp_path, words, message):
    asked = [folder, "--result", tmp_path / "r.json", "--run", "x", "--variant", "v"]
    assert message in longgen("perplexity", *asked, *words, code=2)
    assert not list(tmp_path.iterdir())
