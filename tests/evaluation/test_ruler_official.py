"""RULER's prompts are those of the official scripts, letter by letter."""

import hashlib
import json
import re

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from longgen.evaluation.protocol import protocol
from longgen.evaluation.ruler import TASKS, data, prepare
from longgen.evaluation.ruler.essays import plain_sentences
from longgen.evaluation.ruler.tasks import find_task

MERGED = "the is of and special magic numbers number for sky grass sun green blue yellow Here we There back again VAR"


def small_tokenizer():
    """Byte-level BPE with a few merges: the same with every version of tokenizers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = []
    for word in MERGED.split():
        spelled = "Ġ" + word
        merges += [(spelled[:size], spelled[size]) for size in range(1, len(spelled))]
    merges = list(dict.fromkeys(merges))
    vocabulary = {token: number for number, token in enumerate([*alphabet, *("".join(pair) for pair in merges), "<s>"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>")


def write_official_data(folder):
    """Small files in the official schemas, with their irregularities: blanks, repetitions, questions without answer."""
    folder.mkdir(parents=True, exist_ok=True)
    essay = "".join(
        f"Sentence {i} says what the sentence before it said,\nbut  shorter. " * (1 + i % 2) for i in range(260)
    )
    paragraph = "{0} is the name of river {1}.  It is {1} miles long, and nobody (not even {0}) has measured it twice."
    articles = [
        [paragraph.format(f"Name-{a}-{p}", 17 * a + p) for p in range(3 + a % 4)] + ["A paragraph of several articles."]
        for a in range(40)
    ]
    squad = [
        {
            "paragraphs": [
                {
                    "context": context,
                    "qas": [
                        {"question": "What is missing?", "answers": [], "is_impossible": True},
                        {
                            "question": f"How long is river {a}.{p}?",
                            "answers": [{"text": f"{17 * a + p} miles"}, {"text": str(17 * a + p)}],
                            "is_impossible": False,
                        },
                    ],
                }
                for p, context in enumerate(contexts)
            ]
        }
        for a, contexts in enumerate(articles)
    ]
    hotpotqa = [
        {
            "question": f"Where does road {q} end?",
            "answer": f"Town {q}",
            "context": [
                [f"Road {(q + k) % 70}", [f"Road {(q + k) % 70} ends", " in a town."]] for k in range(2 + q % 9)
            ],
        }
        for q in range(70)
    ]
    files = {
        "PaulGrahamEssays": {"text": essay},
        "squad": {"data": squad},
        "hotpotqa": hotpotqa,
        "english_words": {str(number): f"w{number}" for number in range(20_000)},
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


@pytest.fixture
def official(tmp_path, monkeypatch):
    """A data root; its essay has plain sentences, where NLTK finds the same."""
    write_official_data(tmp_path / "ruler")
    monkeypatch.setattr(data, "punkt", lambda: plain_sentences)
    return tmp_path


def digest(samples):
    content = json.dumps([[sample.prompt, sample.answers, sample.meta["tokens"]] for sample in samples])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# Made by running the scripts of the official repository on the files and the tokenizer above, three samples each.
GOLDEN = {
    (3900, 7): {
        "niah_single_1": "f720e2906c41a3c2",
        "niah_single_2": "d6b95c92f4cf22b7",
        "niah_single_3": "c3db5ef4571670d1",
        "niah_multikey_1": "7a22b273fa8d8e4a",
        "niah_multikey_2": "ce36b2392de37c4e",
        "niah_multikey_3": "fa7a0212453f0560",
        "niah_multivalue": "341a46c9947ea593",
        "niah_multiquery": "1afab60d8ec9c14a",
        "vt": "f01fa1ec4c6d20f3",
        "cwe": "3f7aab5d18a58431",
        "fwe": "89b226ab1f5384b0",
        "qa_1": "f95894867ac78ad6",
        "qa_2": "224bba8f74044dbb",
    },
    (12000, 42): {
        "niah_single_1": "ddbe71f3bf151fc8",
        "niah_single_2": "b5d833e61c5b296a",
        "niah_single_3": "14f8bcb484812edc",
        "niah_multikey_1": "3bcbd736305680db",
        "niah_multikey_2": "6caba29efdbc73c0",
        "niah_multikey_3": "4494a3af06aa639c",
        "niah_multivalue": "0708aef93bedc49d",
        "niah_multiquery": "a84ef1409bf95991",
        "vt": "624dab5e25d1cd6b",
        "cwe": "376da3d6ddb101a1",
        "fwe": "5a6ee3a3c574a51e",
        "qa_1": "ba78ee727dd14be1",
        "qa_2": "82b07826935d91dc",
    },
}


@pytest.mark.parametrize(("length", "seed", "task"), [(*place, task) for place in GOLDEN for task in TASKS])
def test_prompts_are_those_of_the_official_scripts(tokenizer, official, length, seed, task):
    samples = list(prepare(task, length, 3, tokenizer, seed, official))
    assert digest(samples) == GOLDEN[length, seed][task]
    assert [sample.meta["stand_in"] for sample in samples] == [False] * 3
    for sample in samples:
        assert sample.meta["tokens"] == len(tokenizer.tokenize(sample.prompt)) <= length - sample.max_new_tokens


UUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
GIVEN_DOCUMENTS = (
    "Answer the question based on the given documents. Only give me the answer and do not output any other words.\n\n"
    "The following are given documents.\n\nDocument 1:\n"
)
# how prompts begin, and how they end: with the answer prefix, after which a base model goes on
FORMS = {
    "niah_single_1": (
        "A special magic number is hidden within the following text. Make sure to memorize it. "
        "I will quiz you about the number afterwards.\nThe grass is green.",
        r"\nWhat is the special magic number for (.+) mentioned in the provided text\? "
        r"The special magic number for \1 mentioned in the provided text is",
    ),
    "niah_single_3": ("A special magic uuid is hidden", " The special magic uuid for .+ in the provided text is"),
    "niah_multikey_3": ("A special magic uuid is hidden", f" The special magic uuid for {UUID} mentioned .+ is"),
    "niah_multivalue": ("Some special magic numbers are", "What are all the special magic numbers for .+ text are"),
    "niah_multiquery": ("Some special magic numbers are", " The special magic numbers for .+, .+, .+, and .+ text are"),
    "vt": (
        "Memorize and track the chain(s) of variable assignment hidden in the following text.\n\n",
        r"\nQuestion: Find all variables that are assigned the value (\d{5}) in the text above\. Answer: According to "
        r"the chain\(s\) of .+, 5 variables are assigned the value \1, they are: ",
    ),
    "cwe": (
        "Below is a numbered list of words. In these words, some appear more often than others.",
        r"in the above list\? Answer: The top 10 words that appear most often in the list are:",
    ),
    "fwe": (
        "Read the following coded text and track the frequency of each coded word. Find the three most",
        r" coded text\? Answer: According to the coded text above, the three most frequently appeared words are:",
    ),
    "qa_1": (GIVEN_DOCUMENTS, r"not output any other words\.\n\nQuestion: .+\? Answer:"),
    "qa_2": (GIVEN_DOCUMENTS, r"not output any other words\.\n\nQuestion: .+\? Answer:"),
}


@pytest.mark.parametrize("task", FORMS)
def test_forms(tokenizer, official, task):
    (sample,) = prepare(task, 8192, 1, tokenizer, 1, official)
    beginning, end = FORMS[task]
    assert sample.prompt.startswith(beginning)
    assert re.search(f"{end}$", sample.prompt)
    assert sample.max_new_tokens == protocol("ruler")["families"][find_task(task).family]["max_new_tokens"]
