"""Needle in a haystack: where the needle stands, what is asked, and both scores."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.needle import ESSAYS, prepare, score
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample

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
        before, after = sample.prompt.split(needle)
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
        assert "<s>" not in sample.prompt, "the tokenizer adds it, once, to the whole prompt"
        assert sample.meta["stand_in"] is False


def test_the_published_question(tokenizer, essays):
    sample = only("fu", 500, 1, tokenizer, 0, essays, depths=[0.0])
    assert sample.prompt.startswith(f"<|im_start|> This is a very long story book: <book> {NEEDLE}What one does")
    assert sample.prompt.endswith(
        " </book>.\n Based on the content of the book, "
        "Question: What is the best thing to do in San Francisco?\nAnswer:"
    )
    assert sample.max_new_tokens == 50


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
