"""A tokenizer, and small files in the schemas of RULER's own: its official scripts made the golden prompts of them."""

import json

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

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
