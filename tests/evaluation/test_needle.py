"""Needle in a haystack: where the needle stands, what is asked, and both scores."""

import hashlib

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.needle import ESSAYS, prepare, score
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from tests.evaluation.ruler_data import small_tokenizer

NEEDLE = protocol("needle")["fu"]["needle"]


@pytest.fixture(scope="module")
def essays(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / ESSAYS).mkdir(parents=True)
    words = ["what", "one", "does", "with", "time", "is", "what", "one", "becomes,", "and", "few", "people", "notice"]
    for number in range(3):
        sentences = [" ".join(words[i % 7 :]).capitalize() + f" in year {i}." for i in range(200)]
        (root / ESSAYS / f"{number}.txt").write_text(" ".join(sentences) + "\n")
    return root


@pytest.fixture(scope="module")
def tokenizer(essays):
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    trained.train([str(path) for path in (essays / ESSAYS).iterdir()], trainer)
    trained.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=trained, bos_token="<s>", eos_token="</s>", pad_token="</s>")


def only(*arguments, **options) -> Sample:
    (sample,) = prepare(*arguments, **options)
    return sample


@pytest.mark.parametrize("task", ["fu", "keys"])
@pytest.mark.parametrize("length", [400, 1000, 20_000])
def test_the_needle_stands_after_the_sentence_before_its_depth(task, length, tokenizer, essays):
    strings = protocol("needle")[task]
    for depth in (0.0, 0.3, 0.5, 0.99, 1.0):
        sample = only(task, length, 1, tokenizer, 0, essays, depths=[depth])
        needle = sample.meta["needle"]
        assert sample.prompt.count("<s>") == (3 if task == "fu" else 0)
        before, after = sample.prompt.replace("<s>", "").split(needle)
        start, end = strings["template"].split("{context}")
        before, after = before.removeprefix(start), after[: after.rindex(end[:6])]
        tokens = [len(tokenizer.encode(text, add_special_tokens=False)) for text in (before, after)]
        assert tokens[0] / sum(tokens) <= depth + 1e-9 or depth == 1
        assert tokens[0] / sum(tokens) > depth - 0.15
        assert depth in (0.0, 1.0) or before.endswith(".")
        assert depth < 1 or before.count("year") > after.count("year")
        assert (depth == 0) == (before == "")
        used = len(tokenizer(sample.prompt).input_ids)
        assert length - strings["buffer"] < used <= length - sample.max_new_tokens
        assert sample.meta["stand_in"] is False


def test_the_published_question(tokenizer, essays):
    sample = only("fu", 500, 1, tokenizer, 0, essays, depths=[0.0])
    assert sample.prompt.startswith(f"<|im_start|> This is a very long story book: <book> <s>{NEEDLE}<s><s>What one")
    assert sample.prompt.endswith(
        " </book>.\n Based on the content of the book, "
        "Question: What is the best thing to do in San Francisco?\nAnswer:"
    )
    assert sample.max_new_tokens == 50


def bos_first(tokenizer):
    number = tokenizer.backend_tokenizer.token_to_id("<s>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])
    return tokenizer


def llama2_like():
    """Spaces as SentencePiece spells them, one before the text, bytes for what is no letter, and BOS first."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,?:<>/|_'"
    merges = [("▁", letter) for letter in letters]
    for word in ("the", "best", "thing", "says", "shorter", "one", "book"):
        spelled = "▁" + word
        merges += [(spelled[:size], spelled[size]) for size in range(2, len(spelled))]
    merges = list(dict.fromkeys(merges))
    single = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *letters]
    ids = {name: number for number, name in enumerate([*single, *map("".join, merges)])}
    made = Tokenizer(models.BPE(ids, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    plain = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(plain)
    return bos_first(
        PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    )


# Made by running Fu et al.'s needle_in_haystack.py on the essays below, read by name, with the token ids of the period
# (there Llama's) those of the tokenizer; four depths each. The essays have 8,600 (bytes) to 9,700 tokens.
OFFICIAL = {
    ("bytes", 700): "767c97a12074a004",
    ("bytes", 5000): "24fed509898e189b",
    ("bytes", 40_000): "f8b667e23ec4d380",
    ("bytes, BOS first", 700): "563406d40695a5ba",
    ("bytes, BOS first", 5000): "b8c593db8649ef7d",
    ("bytes, BOS first", 40_000): "7b356dd2f310977b",
    ("as Llama-2's", 700): "a439ee6b84a0cd43",
    ("as Llama-2's", 5000): "484ab9c08862a9bb",
    ("as Llama-2's", 40_000): "9cdda416ad2c0c21",
}
KINDS = {
    "bytes": small_tokenizer,
    "bytes, BOS first": lambda: bos_first(small_tokenizer()),
    "as Llama-2's": llama2_like,
}


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_those_of_the_published_code(kind, tmp_path):
    (tmp_path / ESSAYS).mkdir(parents=True)
    for number in range(3):
        lines = [
            f"Sentence {number}.{i} says, “the one before is shorter” .\n"
            if i % 7
            else f"Is {i} the best thing? éè Yes.\n\n"
            for i in range(60)
        ]
        (tmp_path / ESSAYS / f"{number}.txt").write_text("".join([*lines, "The end\n"]), "utf-8")
    tokenizer = KINDS[kind]()
    for length in (700, 5000, 40_000):
        samples = prepare("fu", length, 1, tokenizer, 0, tmp_path, depths=[0, 0.11, 0.56, 1])
        digest = hashlib.sha256("\0".join(sample.prompt for sample in samples).encode()).hexdigest()[:16]
        assert digest == OFFICIAL[kind, length]


def test_prompts_that_begin_elsewhere_have_the_special_tokens_of_the_first(tokenizer, essays):
    for first, second in ((0, 1), (2, 3)):
        prompts = [sample.prompt for sample in prepare("fu", 900, 2, tokenizer, 0, essays, depths=[0.0, 0.5])]
        start = prompts[first].split("<book> ")[1][:4], prompts[second].split("<book> ")[1][:4]
        assert start[0][:3] == start[1][:3] == "<s>"
        assert prompts[first].count("<s>") == prompts[second].count("<s>") == 3
        used = {len(tokenizer(prompt).input_ids) for prompt in prompts}
        assert max(used) - min(used) <= 4


def test_samples_of_a_cell_differ_and_are_reproducible(tokenizer, essays):
    first = list(prepare("keys", 600, 3, tokenizer, 4, essays, depths=[0.5, 1.0]))
    again = list(prepare("keys", 600, 3, tokenizer, 4, essays, depths=[1.0, 0.5]))
    assert len({sample.prompt for sample in first}) == 6
    assert {sample.id: sample for sample in first} == {sample.id: sample for sample in again}
    assert all(sample.answers[0] in sample.meta["needle"] for sample in first)
    assert next(prepare("keys", 600, 1, tokenizer, 5, essays)).prompt != first[0].prompt


def test_stand_in_text_says_so_and_missing_essays_are_named(tokenizer, tmp_path):
    assert only("fu", 500, 1, tokenizer, 0, depths=[0.5]).meta["stand_in"] is True
    with pytest.raises(ArtifactError, match="PaulGrahamEssays is no folder"):
        only("fu", 500, 1, tokenizer, 0, tmp_path, depths=[0.5])
    with pytest.raises(ConfigError, match="length is 150: allowed are more than"):
        only("fu", 150, 1, tokenizer, 0, depths=[0.5])
    with pytest.raises(ConfigError, match="task is 'sf': allowed are fu, keys"):
        only("sf", 500, 1, tokenizer, 0)


@pytest.mark.parametrize(
    ("prediction", "exact", "rouge1"),
    [
        # ROUGE-1 by hand: the needle has 21 words
        (NEEDLE, 1, 1.0),
        (" Eat a sandwich and sit in Dolores Park on a sunny day.", 1, 2 * 12 / (12 + 21)),
        ("", 0, 0.0),
        ("\n\nEat a sandwich and sit in dolores park on a sunny day", 1, 2 * 12 / (12 + 21)),
        ("eat sandwiches", 0, 2 * 2 / (2 + 21)),  # stemmed
        ("a a a a", 0, 2 * 2 / (4 + 21)),  # the needle has two of them
        ("Walk across the bridge", 0, 2 * 1 / (4 + 21)),
    ],
)
def test_scores_of_the_published_question(prediction, exact, rouge1):
    pytest.importorskip("rouge_score")
    sample = Sample("needle", "fu", "0", "", [protocol("needle")["fu"]["answer"]], 50, meta={"needle": NEEDLE})
    assert score(sample, prediction) == {"exact": exact, "rouge1": pytest.approx(rouge1)}


def test_scores_of_keys():
    sample = Sample("needle", "keys", "0", "", ["1234567"], 12)
    assert score(sample, " 1234567. And") == {"exact": 1.0}
    assert score(sample, " 123456") == {"exact": 0.0}
