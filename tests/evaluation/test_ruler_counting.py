"""Counting tokens piece by piece gives what tokenising the whole text gives, with every kind of tokenizer."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from longgen.data.tokenization import encode_text
from longgen.errors import ConfigError
from longgen.evaluation.ruler import counting, stand_ins
from longgen.evaluation.ruler.counting import TokenCounter
from longgen.evaluation.ruler.fitting import Draw, draw_fitting, largest_fitting

TEXT = (
    stand_ins.essay()[:60_000]
    + " VAR ABC = VAR DEF \nIt's 1234567, \"so-called\" 3f2a-9b1c; don't! ad hoc. e.g. 5th\n\n 10x" * 30
)
LLAMA3 = "|".join(
    (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


def trained(normalizer=None, pre_tokenizer=None, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        max_token_length=12,
    )
    tokenizer.train_from_iterator([TEXT[start : start + 400] for start in range(0, len(TEXT), 400)], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


def gpt2():
    return trained(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False))


def llama3():
    split = pre_tokenizers.Split(Regex(LLAMA3), "isolated")
    return trained(pre_tokenizer=pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(use_regex=False)]))


def llama2():
    """Trained on words, used without pre-tokenizer, ``▁`` before the first: as SentencePiece's are converted."""
    words = trained(
        normalizers.Replace(" ", "▁"),
        pre_tokenizers.Sequence([pre_tokenizers.Split("▁", "merged_with_next"), pre_tokenizers.Digits(True)]),
        unk_token="<unk>",
    )
    backend = words.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence([])
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return words


def unaware_of_words():
    """Whose tokens reach across spaces."""
    return trained(unk_token="<unk>")


def wordpiece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=500, special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([TEXT], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


KINDS = {make.__name__: make() for make in (gpt2, llama3, llama2, unaware_of_words, wordpiece)}


@pytest.mark.parametrize("kind", KINDS)
def test_counts_are_exact(kind):
    count = TokenCounter(KINDS[kind])
    for size in (*range(60), 3000, 30_000, len(TEXT)):
        assert count(TEXT[-size:]) == len(KINDS[kind].tokenize(TEXT[-size:]))


@pytest.mark.parametrize("kind", ["gpt2", "llama3", "llama2"])
@settings(max_examples=150)
@given(text=st.text(st.sampled_from("aAbeth  019.,-'\"(_:\n\té€")))
def test_pieces_add_up_for_any_text_without_a_check(kind, text):
    count = TokenCounter(KINDS[kind])
    count._checks_left = 0
    assert count(text) == count(text) == len(KINDS[kind].tokenize(text))


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_that_never_come_again_are_counted_and_not_remembered(kind):
    count, generator = TokenCounter(KINDS[kind]), random.Random(0)
    for _ in range(4):
        numbers = [str(generator.randrange(10**6, 10**9)) for _ in range(200)]
        text = " ".join(f"magic {number}.\nOne 12345678" for number in numbers)
        assert count(text) == len(KINDS[kind].tokenize(text))
    remembered = {piece.strip() for piece in count._pieces}
    assert not remembered & set(numbers)
    assert remembered & {"magic", ".\nOne", "1"} or not count._adds_up


def test_truncation_that_others_left_on_does_not_matter():
    tokenizer = gpt2()
    count = TokenCounter(tokenizer)
    for start in (0, 3000, 6000):
        assert len(tokenizer(TEXT, truncation=True, max_length=7).input_ids) == 7
        text = TEXT[start : start + 3000] + f" {start + 10**7}"
        assert count(text) == len(tokenizer.tokenize(text)) > 7


def test_places_follow_the_vocabulary():
    apart = {kind: TokenCounter(tokenizer) for kind, tokenizer in KINDS.items()}
    assert not apart["unaware_of_words"]._adds_up
    assert apart["llama2"]._adds_up
    assert r"(?<=[0-9])(?=[0-9])" not in apart["gpt2"]._inside.pattern, "it merges digits"


def test_a_tokenizer_whose_pieces_do_not_add_up_is_found_out():
    odd = trained(normalizers.Replace("a b a", "aba"), pre_tokenizers.ByteLevel(add_prefix_space=False))
    count = TokenCounter(odd)
    assert count._adds_up
    for size in (10, 50, 60, 70):
        assert count("a b " * size) == len(odd.tokenize("a b " * size))
    assert not count._adds_up


def with_added_tokens(tokenizer):
    """Special ones stay text when a text spells them; the others are tokens wherever they stand."""
    tokenizer.add_special_tokens({"eos_token": "</s>", "bos_token": "<s>"})
    tokenizer.add_tokens(["<tool call>", "Sandwich", "##"])
    return tokenizer


@pytest.mark.parametrize("make", [gpt2, llama3, llama2, wordpiece, unaware_of_words])
def test_texts_that_spell_added_tokens_are_counted_as_they_are_tokenised(make):
    tokenizer = with_added_tokens(make())
    count = TokenCounter(tokenizer)
    count._checks_left = 0
    beginning = TEXT[:400]
    for piece in (
        "</s>",
        "a<s>b",
        " <s> <unk> ",
        "<tool call>",
        "Sandwiches",
        "sand ##wich",
        "a##",
        "</S>",
        "\uff1cs>",
    ):
        for text in (beginning + piece + beginning, piece, f"x {piece} {beginning}"):
            assert count(text) == len(encode_text(tokenizer, text)), piece
    spelled = count("a </s> b")
    assert spelled > count("a b") + 1 or make is wordpiece


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="allowed is a fast one"):
        TokenCounter("bytes")


def test_the_cache_is_bounded(monkeypatch):
    monkeypatch.setattr(counting, "CACHE_ENTRIES", 50)
    count = TokenCounter(KINDS["gpt2"])
    for start in range(0, 4000, 200):
        text = TEXT[start : start + 200]
        assert count(text) == len(KINDS["gpt2"].tokenize(text))
    assert max(map(len, (count._words, count._pieces, count._rare_words))) < 150


@given(budget=st.integers(0, 400), step=st.integers(1, 30), cost=st.integers(1, 9))
def test_the_search_finds_the_largest_or_the_smallest_allowed(budget, step, cost):
    upper = step + 60
    assert largest_fitting(lambda size: size * cost, budget, step, upper) == min(max(budget // cost, step), upper)


def test_retreat_by_steps_until_a_draw_fits():
    sizes = []

    def draw(size):
        sizes.append(size)
        if len(sizes) == 2:
            raise IndexError
        return Draw("", [], size)

    assert draw_fitting(draw, 8, 5, 17).tokens == 7
    assert sizes == [17, 12, 7]
