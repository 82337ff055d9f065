"""Sources, tokenizer, corpus, documents and rows."""

import hashlib
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from longgen.config import DataSettings, PhaseSettings, TrainingSettings
from longgen.data.sources import SourceDocument, SourceSettings, load_documents
from longgen.data.synthetic.corpus import build_corpus, load_corpus, split_of
from longgen.data.synthetic.documents import ANSWER_WEIGHT, DOCUMENTS
from longgen.data.synthetic.recall import KEYS
from longgen.data.synthetic.tokenizer import decode_bytes, encode_bytes
from longgen.data.synthetic.vocabulary import BOS_ID, EOS_ID, PAD_ID
from longgen.errors import ArtifactError, ConfigError
from longgen.training.rows import build_rows, load_rows

TEXT = encode_bytes("The quick brown fox jumps over the lazy dog. " * 400)


@given(st.text())
def test_saved_tokenizer_gives_bytes_and_gives_the_text_back(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode()) == encode_bytes(text).tolist()
    assert tokenizer.decode(ids) == text == decode_bytes(np.array(ids))


def test_special_tokens_have_the_ids_of_the_vocabulary(tokenizer):
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (PAD_ID, BOS_ID, EOS_ID)
    assert decode_bytes(np.array([104, EOS_ID, 105])) == "hi"


def test_builtin_sources_are_real_and_ordered():
    for kind, least in (("python-stdlib", 1_000_000), ("pydoc-topics", 300_000)):
        documents = list(load_documents(SourceSettings(kind)))
        assert [d.name for d in documents] == sorted(d.name for d in documents)
        assert sum(len(d.text) for d in documents) > least


def test_local_text(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.txt").write_text("zwei", encoding="utf-8")
    (tmp_path / "a.txt").write_text("eins", encoding="utf-8")
    found = list(load_documents(SourceSettings("text", str(tmp_path))))
    assert [(d.name, d.text) for d in found] == [("a.txt", "eins"), ("deep/b.txt", "zwei")]
    (tmp_path / "c.txt").write_bytes(b"ab\xff")
    with pytest.raises(ArtifactError, match=r"c\.txt is not UTF-8 text .* at byte 2"):
        list(load_documents(SourceSettings("text", str(tmp_path))))
    with pytest.raises(ArtifactError, match=r"nowhere is not a file and holds no \*\.txt"):
        list(load_documents(SourceSettings("text", str(tmp_path / "nowhere"))))
    with pytest.raises(ConfigError, match="kind is 'web': allowed are python-stdlib"):
        load_documents(SourceSettings("web"))


def test_corpus_split_is_by_document_and_complete(tmp_path):
    for i in range(60):
        (tmp_path / f"{i:02}.txt").write_text(f"document {i} ", encoding="utf-8")
    data = DataSettings([SourceSettings("text", str(tmp_path))], heldout_fraction=0.25)
    records = build_corpus(data, tmp_path / "corpus")
    corpus = load_corpus(tmp_path / "corpus")
    parts = {"train": corpus.train, "heldout": corpus.heldout}
    documents = {name: decode_bytes_documents(tokens) for name, tokens in parts.items()}
    assert sorted(documents["train"] + documents["heldout"]) == sorted(f"document {i} " for i in range(60))
    assert {r.split: r.documents for r in records} == {name: len(d) for name, d in documents.items()}
    assert 5 <= len(documents["heldout"]) <= 25
    fewer = [SourceDocument("text", f"{i:02}.txt", "") for i in range(0, 60, 2)]
    splits = [split_of(document, 0.25) for document in fewer]
    assert splits == [split_of(SourceDocument("text", d.name, "other"), 0.25) for d in fewer], "by name, not by content"
    build_corpus(data, tmp_path / "again")
    assert load_corpus(tmp_path / "again").fingerprint == corpus.fingerprint
    (tmp_path / "00.txt").write_text("changed", encoding="utf-8")
    build_corpus(data, tmp_path / "again")
    assert load_corpus(tmp_path / "again").fingerprint != corpus.fingerprint


def decode_bytes_documents(tokens: np.ndarray) -> list[str]:
    ends = np.flatnonzero(tokens == EOS_ID)
    return [decode_bytes(part) for part in np.split(tokens, ends + 1) if len(part)]


def test_damaged_corpus_says_what_to_do(tmp_path):
    with pytest.raises(ArtifactError, match=r"manifest\.json is missing: `longgen prepare"):
        load_corpus(tmp_path / "none")
    for i in range(20):
        (tmp_path / f"{i}.txt").write_text("x" * 50)
    build_corpus(DataSettings([SourceSettings("text", str(tmp_path))], heldout_fraction=0.5), tmp_path / "corpus")
    (tmp_path / "corpus" / "train.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(ArtifactError, match=r"corpus is damaged .* remakes it"):
        load_corpus(tmp_path / "corpus")


GOLDEN = {
    "text": "f2c080a867c86e67",
    "repeats": "ed6bbc6487fecbba",
    "pairs": "bbbad84cdbf619db",
    "lookups": "3576e0cadd71f2c1",
    "needles": "591c56f58ce5564d",
    "scattered": "91e4dba0ad1ae440",
    "variables": "f4744fb181d9f10f",
    "values": "d8dfe728b806f570",
    "words": "f8ede4accb065bf7",
}


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_documents_do_not_change(kind):
    text = encode_bytes("".join(f"Sentence {i} says little. " for i in range(400)))
    seen = hashlib.sha256()
    for length in (65, 257, 2049):
        for seed in range(4):
            tokens, weights = DOCUMENTS[kind](np.random.default_rng([seed, length]), text, length)
            seen.update(tokens.astype("<u2").tobytes() + weights.astype("<f2").tobytes())
    assert seen.hexdigest()[:16] == GOLDEN[kind]


@pytest.mark.parametrize("kind", DOCUMENTS)
@pytest.mark.parametrize("length", [20, 57, 58, 65, 93, 129, 257, 1025])
def test_documents_have_the_exact_length(kind, length):
    if kind in ("needles", "scattered"):
        length = max(length, 65)  # a needle and its question
    for seed in range(20):
        tokens, weights = DOCUMENTS[kind](np.random.default_rng(seed), TEXT, length)
        assert len(tokens) == len(weights) == length


@pytest.mark.parametrize("kind", [kind for kind in DOCUMENTS if kind not in ("lookups", "values", "words")])
@pytest.mark.parametrize("length", [65, 129, 257, 1025])
def test_documents_have_answers_that_can_be_known(kind, length):
    for seed in range(20):
        tokens, weights = DOCUMENTS[kind](np.random.default_rng(seed), TEXT, length)
        assert tokens.max() < 256
        assert (weights >= 0).all()
        text = decode_bytes(tokens)
        asked = np.flatnonzero(weights == ANSWER_WEIGHT)
        for answer in np.split(asked, np.flatnonzero(np.diff(asked) > 1) + 1):
            if len(answer) < 5:
                continue  # none, or cut off by the end of the row
            # "acid is 12345"; of a variable just the value, since it may have come from another one
            start = answer[0] - (0 if kind == "variables" else len("acid is "))
            statement = text[start : answer[-1] + 1]
            assert statement in text[: answer[0]], "what is asked for is stated earlier in the document"


def test_lookups_ask_for_what_was_stated_and_half_of_them_closely():
    text = encode_bytes("#" * 400)
    rows, distances, digits, most = 400, set(), set(), 0
    closest = 0
    for seed in range(rows):
        tokens, weights = DOCUMENTS["lookups"](np.random.default_rng(seed), text, 129)
        stated: dict[str, str] = {}
        for match in re.finditer(r"([a-z]+)(| |: | is )(\d+)", decode_bytes(tokens)):
            key, between, value = match.groups()
            asked = weights[slice(*match.span(3))]
            assert (asked == (ANSWER_WEIGHT if key in stated else 0)).all()
            assert (weights[slice(*match.span(1))] == 0).all(), "nobody can guess which key comes next"
            assert stated.setdefault(key, value).startswith(value), "the end of the row may cut the last one"
        assert set(map(len, stated)) in ({1}, {4})
        assert {key[0] for key in stated} <= {key[0] for key in KEYS}
        closest += (len(key), between, len(stated[key])) == (1, "", 1)
        distances.add(len(between))
        digits.add(len(stated[key]))
        most = max(most, len(stated))
    assert 0.4 * rows < closest < 0.6 * rows
    assert (distances, digits, most) == ({0, 1, 2, 4}, {1, 2, 3, 4, 5}, 4)


@pytest.mark.parametrize("length", [65, 129, 257, 1025])
def test_all_values_of_a_key_are_asked_for_in_their_order(length):
    most = 0
    for seed in range(30):
        tokens, weights = DOCUMENTS["values"](np.random.default_rng(seed), TEXT, length)
        text = decode_bytes(tokens)
        stated: dict[str, list[str]] = {}
        for key, value in re.findall(r"\nA value of (\w{4}) is (\d{5})\.\n", text):
            stated.setdefault(key, []).append(value)
        asked = dict(re.findall(r"\nThe values of (\w{4}) are ([\d ]+)\.\n", text))
        assert asked == {key: " ".join(values) for key, values in stated.items()}
        answers = decode_bytes(tokens[weights == ANSWER_WEIGHT])
        assert sorted(answers) == sorted("".join(asked.values())), "of the values those count that are asked for"
        assert not weights[np.isin(tokens, encode_bytes("0123456789")) & (weights != ANSWER_WEIGHT)].any()
        most = max(most, *map(len, stated.values()))
    assert most == (1 if length == 65 else 2 if length == 129 else 4)


@pytest.mark.parametrize("length", [129, 257, 1025])
def test_the_words_that_are_asked_for_are_those_that_occur_most_often(length):
    for seed in range(20):
        tokens, weights = DOCUMENTS["words"](np.random.default_rng(seed), TEXT, length)
        listed, question = decode_bytes(tokens).removesuffix("\n").split("\n")
        ranked = Counter(re.findall("|".join(KEYS), listed)).most_common()
        answer = " ".join(word for word, _ in ranked[:3])
        assert question == f"The most common words are {answer}."
        assert decode_bytes(tokens[weights == ANSWER_WEIGHT]) == answer
        start = len(listed) % 5
        assert not weights[start : len(listed)].any(), "nobody can guess the next word of a list"


@pytest.mark.parametrize("kind", ["needles", "scattered", "pairs"])
def test_first_statements_of_a_value_do_not_count(kind):
    tokens, weights = DOCUMENTS[kind](np.random.default_rng(1), TEXT, 513)
    text = decode_bytes(tokens)
    first: dict[str, int] = {}
    for start in range(len(text) - 5):
        value = text[start : start + 5]
        if value.isdigit():
            expected = ANSWER_WEIGHT if value in first else 0.0
            assert (weights[start : start + 5] == expected).all(), (value, start)
            first.setdefault(value, start)
    assert len(first) > 0


def test_rows_are_reproducible_and_independent_of_other_phases(tmp_path):
    phase = PhaseSettings(64, 4, 5, 1e-3, {"needles": 0.5, "text": 0.25, "pairs": 0.25})
    one, two = TrainingSettings([phase]), TrainingSettings([phase, phase])
    first = build_rows(one, TEXT, "f", 3, "base", tmp_path / "one")
    second = build_rows(two, TEXT, "f", 3, "base", tmp_path / "two")
    (rows,), identity = load_rows(tmp_path / "one", one, 260)
    both, _ = load_rows(tmp_path / "two", two, 260)
    assert identity == first != second
    assert rows.tokens.shape == rows.weights.shape == (20, 65)
    assert np.array_equal(rows.tokens, both[0].tokens)
    assert not np.array_equal(both[0].tokens, both[1].tokens)
    assert build_rows(one, TEXT, "f", 4, "base", tmp_path / "seed") != first
    batch = rows.batch(8, 4)
    inputs, targets, weights = batch.inputs, batch.targets, batch.weights
    assert inputs.shape == targets.shape == weights.shape == (4, 64)
    assert (inputs[:, 1:] == targets[:, :-1]).all()
    assert (targets.numpy() == rows.tokens[8:12, 1:]).all()
    assert (weights.numpy() == rows.weights[8:12, 1:]).all()


def test_a_row_longer_than_the_text_is_refused(tmp_path):
    phase = PhaseSettings(10**6, 1, 1, 1e-3, {"text": 1.0})
    with pytest.raises(ConfigError, match=r"length is 1000000: the text has 18000 tokens"):
        build_rows(TrainingSettings([phase]), TEXT, "f", 0, "base", tmp_path / "x")
    assert not (tmp_path / "x").exists()
