"""What the prompts of a probe hold, and that no sparse layer sees a fact when it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from longgen.data.facts import make_facts
from longgen.data.synthetic.tokenizer import decode_bytes
from longgen.errors import ConfigError
from longgen.evaluation.perplexity.documents import open_text
from longgen.pattern import SparsePattern
from longgen.probing.prompts import KINDS, make_prompts
from tests.probing.models import write_text

PATTERNS = [SparsePattern(16, 2, 8), SparsePattern(64, 1, 4), SparsePattern(16, 0, 1), SparsePattern(8, 1, 4, 40)]


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return str(write_text(tmp_path_factory.mktemp("probe") / "text"))


def made(text, tokenizer, pattern=PATTERNS[0], kv_heads=2, count=3, length=1500, facts=3, seed=0):
    return make_prompts(
        open_text(text, length, seed),
        tokenizer,
        pattern,
        kv_heads,
        count=count,
        length=length,
        facts=facts,
        seed=seed,
    )


def test_the_answers_are_those_of_facts_that_the_prompt_states(text, tokenizer):
    for number, prompt in enumerate(made(text, tokenizer)):
        assert len(prompt.tokens) == 1500
        words = decode_bytes(prompt.tokens)
        facts = make_facts(np.random.default_rng([0, 1, number]), 3, KINDS)
        assert sorted(decode_bytes(prompt.tokens[prompt.answers])) == sorted("".join(fact.answer for fact in facts))
        assert (np.diff(prompt.answers) > 0).all()
        for fact in facts:
            assert words.count(fact.statements[0]) == 1
            assert words.index(fact.statements[0]) < words.index(fact.question + fact.answer)


@pytest.mark.parametrize("pattern", PATTERNS, ids=["sink", "large", "no sink", "stride"])
def test_no_sparse_head_sees_a_statement_from_its_question(text, tokenizer, pattern):
    for number, prompt in enumerate(made(text, tokenizer, pattern)):
        words = decode_bytes(prompt.tokens)
        facts = make_facts(np.random.default_rng([0, 1, number]), 3, KINDS)
        asked = [words.index(fact.question + fact.answer) for fact in facts]
        for fact, question in zip(facts, asked, strict=True):
            first = words.index(fact.statements[0])
            stated = np.arange(first, first + len(fact.statements[0]))
            for query in range(question, 1500):
                assert not pattern.allowed(query, stated).any()


def test_plain_text_is_neither_stated_nor_asked_and_farther_than_the_window(text, tokenizer):
    pattern = SparsePattern(16, 1, 8)
    for number, prompt in enumerate(made(text, tokenizer, pattern)):
        words = decode_bytes(prompt.tokens)
        facts = make_facts(np.random.default_rng([0, 1, number]), 3, KINDS)
        taken = set(prompt.text.tolist())
        assert len(taken) == 256
        assert min(taken) >= 9 * 16
        assert max(taken) < min(words.index(fact.question + fact.answer) for fact in facts)
        for fact in facts:
            first = words.index(fact.statements[0])
            assert taken.isdisjoint(range(first, first + len(fact.statements[0])))


def test_the_same_seed_gives_the_same_prompts_and_another_others(text, tokenizer):
    names = [[prompt.name for prompt in made(text, tokenizer, seed=seed)] for seed in (0, 0, 1)]
    assert names[0] == names[1]
    assert len({*names[0], *names[2]}) == 6


def test_what_the_tokenizer_puts_before_texts_counts(text, tokenizer, monkeypatch):
    plain = made(text, tokenizer)[0]
    monkeypatch.setattr("longgen.probing.prompts.prompt_start", lambda _: [257])
    prompt = made(text, tokenizer)[0]
    assert (len(prompt.tokens), prompt.tokens[0]) == (1500, 257)
    assert decode_bytes(prompt.tokens[prompt.answers]) == decode_bytes(plain.tokens[plain.answers])
    assert decode_bytes(prompt.tokens[prompt.answers - 1])[0] != " "  # what stands before an answer is no part of it


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"length": 420}, r"--length is 420: 3 facts need \d+ tokens that no sparse layer sees \(a sink of 32 tokens"),
        ({"pattern": SparsePattern(64, 1, 24)}, "a window of 1536"),
        ({"pattern": SparsePattern(16, 1, 2, 3)}, "one block of 16 in 3"),
        ({"pattern": SparsePattern(16, 1, 2, 32, staggered=True), "kv_heads": 32}, "one block of 16 in 32"),
        ({"length": 30000}, "none of 2 of text has so many"),
        ({"facts": 40}, "40 facts need"),
    ],
)
def test_where_facts_would_be_seen_or_text_is_short_a_probe_is_refused(text, tokenizer, changes, message):
    with pytest.raises(ConfigError, match=message):
        made(text, tokenizer, **changes)
