"""Facts and the rows that ask for them: what is asked for is stated, once, where it is said to be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from longgen.data.facts import KINDS, make_facts
from longgen.data.packing.lookups import CUE_TOKENS, QUOTED_TOKENS, LookupRow, ends_of_sentences, lookup_row
from longgen.data.packing.packed import PackedRows
from longgen.data.packing.settings import LongSourceSettings, LookupSettings
from longgen.data.synthetic.tokenizer import encode_bytes
from longgen.errors import ArtifactError, ConfigError
from longgen.training.batches import DocumentRows
from tests.data.packing.corpora import documents, packed, settings, source, write_jsonl

TEXT = "The rain had stopped. Nobody came.\nA door stood open, and the lamp was lit. " * 400


def encode(text: str) -> list[int]:
    return encode_bytes(text).tolist()


def text_of(tokens: np.ndarray) -> str:
    return bytes(tokens.tolist()).decode()


def make_row(seed: int, count: int, quotes: int = 0, length: int = 8192, **options: object) -> tuple[list, LookupRow]:
    generator = np.random.default_rng(seed)
    facts = make_facts(generator, count)
    body = np.array(encode(TEXT))
    ends = ends_of_sentences([chr(index) for index in range(256)])
    return facts, lookup_row(generator, body, facts, encode, length, ends, quotes, **options)


@pytest.mark.parametrize("seed", range(8))
def test_a_row_states_what_it_asks_for(seed: int) -> None:
    facts, row = make_row(seed, count=12)
    assert row.tokens.shape == (8192,)
    whole = text_of(row.tokens)
    asked = {text_of(row.tokens[begin:end]): place for place, (begin, end) in enumerate(row.answers.tolist())}
    for fact in facts:
        begin, end = row.statements[asked[fact.answer]].tolist()
        stated = text_of(row.tokens[begin:end])
        at = [stated.find(text) for text in fact.statements]
        assert at == sorted(at)
        assert at[0] in (0, 1), "from its first token on"
        assert stated.endswith(fact.statements[-1]), "to its last"
        assert whole.count(fact.question + fact.answer + fact.end) == 1
    assert whole.endswith(tuple(fact.question + fact.answer + fact.end for fact in facts))
    assert (row.statements[:, 1] <= row.answers[:, 0].min()).all(), "all questions are at the end"


def test_statements_stand_where_a_sentence_may_begin() -> None:
    facts, row = make_row(3, count=6)
    for fact, (begin, _) in zip(facts, sorted(row.statements.tolist()), strict=False):
        assert text_of(row.tokens[begin - 1 : begin]) in ".!?\n", fact


def test_quotations_go_on_as_the_text_does() -> None:
    _, row = make_row(5, count=0, quotes=4)
    assert len(row.answers) == 4
    for (begin, end), (start, stop) in zip(row.answers.tolist(), row.statements.tolist(), strict=True):
        assert end - begin == QUOTED_TOKENS
        assert stop - start == CUE_TOKENS + QUOTED_TOKENS
        assert (row.tokens[begin:end] == row.tokens[start + CUE_TOKENS : stop]).all()
        assert text_of(row.tokens[start : start + CUE_TOKENS]) in text_of(row.tokens[begin - 60 : begin])


def test_statements_keep_within_a_part_of_the_row() -> None:
    _, row = make_row(1, count=6, quotes=3, length=16384, within=(0.25, 0.5))
    assert row.statements[:, 0].min() >= 0.2 * 16384
    assert row.statements[:, 1].max() <= 0.55 * 16384


def test_the_rest_of_a_row_is_its_text() -> None:
    facts, row = make_row(2, count=5)
    rest = text_of(row.tokens)
    for fact in facts:
        rest = rest.replace(fact.question + fact.answer + fact.end, "", 1)
        for text in fact.statements:
            rest = rest.replace(text if text[0] == "\n" else f" {text}", "", 1)
    assert TEXT.startswith(rest)


@pytest.mark.parametrize("kind", KINDS)
def test_facts_have_a_subject_each_and_their_answer_is_no_part_of_the_question(kind: str) -> None:
    facts = make_facts(np.random.default_rng(0), 12, [kind])
    assert len({fact.subject for fact in facts}) == len({fact.question for fact in facts}) == 12
    for fact in facts:
        assert fact.answer[0] == " "
        assert fact.question[0] == "\n"
        assert fact.answer.strip() not in fact.question
        stated = " ".join(fact.statements)
        assert all(part.strip(' "') in stated for part in fact.answer.split(","))


def test_what_cannot_be_is_refused() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(ConfigError, match=r"kind of fact is 'needle': allowed are number, place"):
        make_facts(generator, 1, ["needle"])
    with pytest.raises(ConfigError, match=r"1000 facts are wanted of chain: allowed is about \d+"):
        make_facts(generator, 1000, ["chain"])
    with pytest.raises(ValueError, match="a row of 256 tokens has no room for 8 facts"):
        make_row(0, count=8, length=256)


@pytest.fixture
def corpus(tmp_path: Path) -> LongSourceSettings:
    return source(write_jsonl(tmp_path / "corpus.jsonl", documents(2500)))


def test_packed_rows_ask_and_answers_count_more(corpus: LongSourceSettings, tmp_path: Path) -> None:
    lookups = LookupSettings(share=0.5, tokens_per_question=1024)
    plain = settings(corpus, lengths=[8192], token_budget=30 * 8192, shard_tokens=5 * 8192)
    _, before = packed(plain, tmp_path / "plain")
    _, after = packed(replace(plain, lookups=lookups), tmp_path / "asked")
    asked = [index for index in range(30) if len(after.answers(index))]
    assert 8 <= len(asked) <= 22
    for index in range(30):
        tokens, cu_seqlens = after.row(index)
        assert len(before.answers(index)) == 0
        if index not in asked:
            assert (tokens == before.row(index)[0]).all(), "text stays as it was"
            assert (cu_seqlens == before.row(index)[1]).all()
            continue
        assert cu_seqlens.tolist() == [0, 8192], "what answers a question is seen"
        batch = DocumentRows(after, answer_weight=5.0).batch(index, 1)
        heavy = (batch.weights[0] > 1).nonzero().flatten().numpy()
        wanted = np.concatenate([np.arange(begin, end) for begin, end in after.answers(index)])
        assert (np.sort(wanted) == heavy + 1).all(), "the token before an answer's predicts it"
        assert set(batch.weights.unique().tolist()) == {0.0, 1.0, 5.0}


def test_how_many_questions_a_row_has_is_bounded(corpus: LongSourceSettings, tmp_path: Path) -> None:
    lookups = LookupSettings(share=1.0, tokens_per_question=256, most_tokens_per_question=512)
    _, rows = packed(settings(corpus, lengths=[8192], token_budget=30 * 8192, lookups=lookups), tmp_path / "asked")
    counts = [len(rows.answers(index)) for index in range(30)]
    assert 16 <= min(counts) < 20
    assert 28 < max(counts) <= 32
    with pytest.raises(ConfigError, match="most_tokens_per_question is 255: allowed is a whole number >= 256"):
        replace(lookups, most_tokens_per_question=255)


def test_rows_with_lookups_do_not_depend_on_shards_or_interruptions(corpus: LongSourceSettings, tmp_path: Path) -> None:
    chosen = settings(corpus, lengths=[4096], token_budget=10 * 4096, lookups=LookupSettings(0.6, 1024))
    for name, tokens in (("one", 1 << 20), ("several", 3 * 4096)):
        packed(replace(chosen, shard_tokens=tokens), tmp_path / name)
    one, several = (PackedRows.open(tmp_path / name) for name in ("one", "several"))
    assert len(one.shards) == 1 < len(several.shards)
    for index in range(10):
        assert (one.row(index)[0] == several.row(index)[0]).all()
        assert (one.answers(index) == several.answers(index)).all()
    (tmp_path / "several" / "rows" / "4096" / "00000" / "answers.npy").unlink()
    with pytest.raises(ArtifactError, match="is damaged"):
        PackedRows.open(tmp_path / "several")


def test_rows_too_short_for_questions_are_refused(corpus: LongSourceSettings, tmp_path: Path) -> None:
    chosen = settings(corpus, lengths=[256], token_budget=2560, lookups=LookupSettings(1.0, 16))
    with pytest.raises(ConfigError, match=r"lookups.tokens_per_question is 16: a row of 256 tokens has no room"):
        packed(chosen, tmp_path / "out")
