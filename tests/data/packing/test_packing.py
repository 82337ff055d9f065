"""Packing from files to rows: budget, boundaries, duplicates, workers, buckets, tokenizers, the reading API."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from longgen.data.packing.packed import PackedRows
from longgen.data.packing.rows import row_boundaries
from longgen.data.packing.settings import UpsamplingSettings
from longgen.data.synthetic.vocabulary import BOS_ID, EOS_ID, VOCABULARY_SIZE
from longgen.errors import ArtifactError, ConfigError
from tests.data.packing.corpora import (
    THRESHOLD,
    assert_whole,
    digests,
    documents,
    packed,
    settings,
    slimpajama,
    source,
    texts_of,
    upsampled,
    write_jsonl,
)


@pytest.fixture
def corpus(tmp_path):
    return source(write_jsonl(tmp_path / "corpus.jsonl", documents(400)))


def total(done):
    return done.records[-1]


def test_every_document_reappears_exactly_and_boundaries_are_theirs(tmp_path):
    written = documents(300)
    chosen = source(write_jsonl(tmp_path / "corpus.jsonl", written))
    size = sum(len(each["text"]) + 2 for each in written)
    done, rows = packed(settings(chosen, token_budget=size), tmp_path / "out")
    assert len(rows) == size // 100
    texts = texts_of(rows)
    assert_whole(texts, written)
    assert len(texts) >= len(written) - 25, "less than a row is left over"
    for index in range(len(rows)):
        tokens, cu_seqlens = rows.row(index)
        assert tokens.dtype == np.int64
        assert cu_seqlens.dtype == np.int32
        assert tokens.shape == (100,)
        inner = set(np.flatnonzero(tokens == BOS_ID).tolist()) - {0}
        assert cu_seqlens.tolist() == [0, *sorted(inner), 100], "where a document begins, and nowhere else"
    assert total(done)["tokens_used"] == len(rows) * 100


@hypothesis_settings(max_examples=15)
@given(st.data())
def test_invariants_for_any_corpus(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("any")
    lengths = data.draw(st.lists(st.integers(1, 200), min_size=1, max_size=40))
    written = [slimpajama(f"{i}:" + "x" * size, "ab"[i % 2]) for i, size in enumerate(lengths)]
    size = sum(len(each["text"]) + 2 for each in written)
    length = data.draw(st.integers(2, size))
    chosen = settings(
        source(write_jsonl(folder / "corpus.jsonl", written)),
        lengths=[length],
        token_budget=data.draw(st.integers(length, size)),
        shard_tokens=data.draw(st.integers(1, 2000)),
        seed=data.draw(st.integers(0, 9)),
    )
    done, rows = packed(chosen, folder / "out")
    assert len(rows) * length == chosen.tokens == total(done)["tokens_used"]
    texts = texts_of(rows)
    assert_whole(texts, written)
    assert len(texts) == total(done)["documents_used"]
    whole, cu_seqlens = rows.batch(range(len(rows)))
    starts = set(np.flatnonzero(whole.ravel() == BOS_ID).tolist())
    assert set(cu_seqlens.tolist()) == starts | set(range(0, chosen.tokens + 1, length))
    assert (np.diff(cu_seqlens) > 0).all()


def test_row_boundaries_golden():
    cu_seqlens, offsets = row_boundaries(np.array([0, 3, 10, 14, 20]), 2, 10)
    assert cu_seqlens.tolist() == [0, 3, 10, 0, 4, 10]
    assert offsets.tolist() == [0, 3, 6]
    cu_seqlens, offsets = row_boundaries(np.array([0, 25, 30]), 3, 10)
    assert cu_seqlens.tolist() == [0, 10, 0, 10, 0, 5, 10]
    assert offsets.tolist() == [0, 2, 4, 7]


def test_up_sampling_reaches_the_rows(tmp_path, corpus):
    base = settings(corpus, token_budget=8_000)
    done, rows = packed(upsampled(base, share=0.9, max_repeats=9), tmp_path / "out")
    read: dict[str, int] = {}
    used: dict[str, int] = {}
    long: dict[str, int] = {}
    for record in done.records[:-1]:
        for counts, column in ((read, "tokens_read"), (used, "tokens_used")):
            counts[record["domain"]] = counts.get(record["domain"], 0) + record[column]
        if record["length_low"] >= THRESHOLD:
            long[record["domain"]] = long.get(record["domain"], 0) + record["tokens_used"]
    assert sum(used.values()) == 8_000 == len(rows) * 100
    for domain, tokens in read.items():
        assert abs(used[domain] - 8_000 * tokens / sum(read.values())) < 1
        assert long[domain] >= 0.9 * used[domain] - 1


def test_the_same_bytes_whatever_the_number_of_workers(tmp_path, corpus):
    chosen = upsampled(settings(corpus), factor=3)
    packed(chosen, tmp_path / "one")
    packed(replace(chosen, workers=2), tmp_path / "two")
    assert digests(tmp_path / "one") == digests(tmp_path / "two")
    packed(replace(chosen, seed=1), tmp_path / "seed")
    assert digests(tmp_path / "one") != digests(tmp_path / "seed")
    assert not (tmp_path / "one" / "documents").exists(), "what was needed on the way is gone"


def test_exact_duplicates_are_dropped_and_counted(tmp_path):
    written = documents(50)
    again = [written[3], slimpajama(written[7]["text"], "RedPajamaElsewhere"), written[3]]
    path = write_jsonl(tmp_path / "corpus.jsonl", [*written, *again])
    size = sum(len(each["text"]) + 2 for each in written)
    done, rows = packed(settings(source(path), lengths=[2], token_budget=size), tmp_path / "out")
    assert total(done)["documents_read"] == 53
    assert total(done)["documents_duplicate"] == 3
    assert total(done)["documents_used"] == 50
    assert total(done)["tokens_duplicate"] == sum(len(each["text"]) + 2 for each in again)
    texts = texts_of(rows)
    assert len(set(texts)) == len(texts) == 50
    with pytest.raises(ArtifactError, match=r"tokens are wanted from all documents, which have"):
        packed(settings(source(path), lengths=[2], token_budget=size + 2), tmp_path / "more")


def test_buckets_are_rows_of_single_documents(tmp_path, corpus):
    chosen = settings(corpus, method="buckets", lengths=[16, 32, 128], token_budget=9_000)
    done, _ = packed(chosen, tmp_path / "out")
    tokens = 0
    for length in chosen.lengths:
        rows = PackedRows.open(tmp_path / "out", length)
        for index in range(len(rows)):
            row, cu_seqlens = rows.row(index)
            assert cu_seqlens.tolist() == [0, length]
            assert (row[1:] != BOS_ID).all()
            assert (row[:-1] != EOS_ID).all()
        tokens += length * len(rows)
    assert tokens == 9_000 // 16 * 16 == total(done)["tokens_used"]
    assert total(done)["tokens_wasted"] > 0
    with pytest.raises(ConfigError, match=r"length is None: allowed with .* is one of 128, 32, 16"):
        PackedRows.open(tmp_path / "out")


def test_several_sources_and_max_tokens(tmp_path):
    first = source(write_jsonl(tmp_path / "a.jsonl", documents(2000)), name="first", max_tokens=20_000)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "b.txt").write_text("only one")
    second = source(tmp_path / "texts", name="second", kind="text")
    done, _ = packed(settings(first, second), tmp_path / "out")
    read = {}
    for record in done.records[:-1]:
        read[record["domain"]] = read.get(record["domain"], 0) + record["tokens_read"]
    assert read.pop("second") == len("only one") + 2
    assert 20_000 <= sum(read.values()) < 60_000, "reading stops after the block that reaches it"


def save_tokenizer(folder, vocabulary_size):
    """A byte-level BPE that knows one word; the rest of its vocabulary is never used."""
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "th", "the"]
    words += [f"unused {number}" for number in range(vocabulary_size - len(words) - 2)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, [("t", "h"), ("th", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.save_pretrained(folder)
    return fast


@pytest.mark.parametrize(("vocabulary_size", "dtype"), [(1 << 16, "uint16"), ((1 << 16) + 1, "uint32")])
def test_hugging_face_tokenizers(tmp_path, vocabulary_size, dtype):
    fast = save_tokenizer(tmp_path / "tokenizer", vocabulary_size)
    text = "the quick </s> brown <s> fox"
    written = [slimpajama(f"{i} {text}", "a") for i in range(20)]
    chosen = settings(source(write_jsonl(tmp_path / "corpus.jsonl", written)), lengths=[10], token_budget=200)
    _, rows = packed(replace(chosen, tokenizer=str(tmp_path / "tokenizer")), tmp_path / "out")
    assert rows.shards[0].tokens.dtype == dtype
    assert rows.vocabulary_size == len(fast) == vocabulary_size
    tokens, cu_seqlens = rows.batch(range(len(rows)))
    flat = tokens.ravel()
    starts = np.flatnonzero(flat == fast.bos_token_id)
    assert set(starts.tolist()) <= set(cu_seqlens.tolist()), "<s> in a text is text"
    first = flat[starts[0] + 1 : starts[1] - 1]
    assert flat[starts[1] - 1] == fast.eos_token_id
    assert fast.decode(first).endswith(f" {text}")
    assert (tmp_path / "out" / "tokenizer" / "tokenizer.json").is_file()


def test_a_tokenizer_that_does_not_fit(tmp_path, corpus):
    chosen = settings(corpus)
    with pytest.raises(ConfigError, match=r"tokenizer is '.*nowhere': allowed is bytes, a folder, a .gguf file"):
        packed(replace(chosen, tokenizer=str(tmp_path / "nowhere")), tmp_path / "out")
    fast = save_tokenizer(tmp_path / "tokenizer", 300)
    fast.bos_token = None
    fast.save_pretrained(tmp_path / "tokenizer")
    without = replace(chosen, tokenizer=str(tmp_path / "tokenizer"))
    with pytest.raises(ConfigError, match=r"begin_with_bos is True: allowed is false with tokenizer"):
        packed(without, tmp_path / "out")
    packed(replace(without, begin_with_bos=False), tmp_path / "out")


def test_reading(tmp_path, corpus):
    _, rows = packed(settings(corpus), tmp_path / "out")
    assert len(rows) == 100
    assert rows.vocabulary_size <= VOCABULARY_SIZE
    tokens, cu_seqlens = rows.batch([7, 3])
    assert tokens.shape == (2, 100)
    assert (tokens[1] == rows.row(3)[0]).all()
    assert cu_seqlens.dtype == np.int32
    expected = [*rows.row(7)[1].tolist(), *(rows.row(3)[1][1:] + 100).tolist()]
    assert cu_seqlens.tolist() == expected
    assert isinstance(rows.shards[0].tokens, np.memmap)
    for index in (-1, 100):
        with pytest.raises(IndexError, match=r"allowed is 0\.\.99"):
            rows.row(index)
    with pytest.raises(ConfigError, match=r"length is 64: allowed with .* is one of 100"):
        PackedRows.open(tmp_path / "out", 64)
    with pytest.raises(ArtifactError, match=r"manifest\.json is missing: `longgen pack"):
        PackedRows.open(tmp_path)
    path = next((tmp_path / "out").rglob("tokens.npy"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"is damaged .*: delete it, `longgen pack` remakes it"):
        PackedRows.open(tmp_path / "out")


def test_report_columns(tmp_path, corpus):
    done, _ = packed(replace(settings(corpus), method="global", upsampling=UpsamplingSettings(64, 2.0)), tmp_path / "o")
    assert len({tuple(record) for record in done.records}) == 1, "all records have the same columns"
    for record in done.records[:-1]:
        assert record["documents_read"] >= record["documents_used"]
        assert record["tokens_read"] >= record["tokens_used"]
    assert total(done)["tokens_wasted"] < 600, "only the last document of a group is cut"
    assert total(done)["tokens_per_second"] > 0


def test_several_lengths_share_the_budget_and_no_token(tmp_path):
    written = documents(300)
    size = sum(len(each["text"]) + 2 for each in written)
    chosen = settings(
        source(write_jsonl(tmp_path / "corpus.jsonl", written)),
        lengths=[50, 400],
        length_shares=[0.25, 0.75],
        token_budget=size,
    )
    done, _ = packed(chosen, tmp_path / "out")
    short, long = (PackedRows.open(tmp_path / "out", length) for length in (50, 400))
    assert (len(short), len(long)) == (round(size / 4) // 50, round(size * 3 / 4) // 400)
    assert total(done)["tokens_used"] == chosen.tokens == len(short) * 50 + len(long) * 400
    laid = [rows.row(index)[0] for rows in (short, long) for index in range(len(rows))]
    tokens = np.concatenate(laid)
    one = settings(source(tmp_path / "corpus.jsonl"), lengths=[50], token_budget=len(tokens))
    _, whole = packed(one, tmp_path / "one")
    assert (tokens == np.concatenate([whole.row(index)[0] for index in range(len(whole))])).all()


@pytest.mark.parametrize("lengths", [[100], [50, 400]])
def test_shuffled_rows_are_the_same_rows_in_another_order(corpus, tmp_path, lengths):
    plain, shuffled = settings(corpus, lengths=lengths), settings(corpus, lengths=lengths, shuffle_rows=True)
    packed(plain, tmp_path / "plain")
    packed(shuffled, tmp_path / "shuffled")
    for length in lengths:
        one, other = (PackedRows.open(tmp_path / name, length) for name in ("plain", "shuffled"))
        before = [row_of(one, i) for i in range(len(one))]
        after = [row_of(other, i) for i in range(len(other))]
        assert sorted(before) == sorted(after)
        assert before != after


def row_of(rows, index):
    tokens, cu_seqlens = rows.row(index)
    return tuple(tokens.tolist()), tuple(cu_seqlens.tolist())
