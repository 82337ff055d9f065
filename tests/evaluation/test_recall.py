"""Recall: prompts of exact lengths, one answer that follows from the prompt and nothing else, and its scores."""

import hashlib
import re
from collections import Counter

import numpy as np
import pytest
from transformers import AutoTokenizer

from longgen.config import DataSettings
from longgen.data.sources import SourceSettings
from longgen.data.synthetic.corpus import build_corpus
from longgen.data.synthetic.recall import FREQUENCIES, KEYS, SHORTEST_LIST, word_list
from longgen.data.synthetic.tokenizer import decode_bytes, encode_bytes
from longgen.data.synthetic.vocabulary import EOS_ID
from longgen.data.tokenization import encode_prompt
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.benchmarks import benchmark
from longgen.evaluation.protocol import protocol
from longgen.evaluation.recall import SHORTEST_LENGTH, TASKS, check, prepare, score
from longgen.evaluation.runs.scoring import CellScores, score_records, summary_records
from longgen.evaluation.samples import Sample
from longgen.evaluation.summaries import Cell
from longgen.statistics import wilson_interval
from tests.evaluation.ruler_data import small_tokenizer

NEEDLES, VALUES = protocol("recall")["multikey"]["needles"], protocol("recall")["multivalue"]["values"]
TEXT = encode_bytes("".join(f"Sentence {i} says little. " for i in range(400)))


def sample(task: str, length: int, depth: float = 0.5, seed: int = 5) -> tuple[str, str]:
    made = TASKS[task].question(np.random.default_rng(seed), TEXT, length, depth)
    assert made.prompt.dtype == made.answer.dtype == np.uint16
    assert len(made.prompt) + len(made.answer) == length
    return decode_bytes(made.prompt), decode_bytes(made.answer)


@pytest.mark.parametrize(
    ("task", "digest"),
    [
        ("needle", "27116b1b3ecb2ce1"),
        ("multikey", "c38ea643ef92297e"),
        ("variable-tracking", "4e0a0f1a09d85548"),
        ("multivalue", "d330520b71207d16"),
        ("common-words", "9ba78e67711ac034"),
    ],
)
def test_samples_do_not_change(task, digest):
    seen = hashlib.sha256()
    for length in (192, 1000):
        for depth in (0.0, 0.3, 1.0):
            made = TASKS[task].question(np.random.default_rng([7, length]), TEXT, length, depth)
            seen.update(made.prompt.astype("<u2").tobytes() + made.answer.astype("<u2").tobytes())
    assert seen.hexdigest()[:16] == digest


@pytest.mark.parametrize("task", [name for name in TASKS if name != "common-words"])
@pytest.mark.parametrize("length", [SHORTEST_LENGTH, 256, 1000])
@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_what_is_asked_for_stands_once_and_one_of_it_at_its_depth(task, length, depth):
    prompt, answer = sample(task, length, depth)
    parts = answer.split(" ")
    assert len(parts) == (VALUES if task == "multivalue" else 1)
    assert all(re.fullmatch(r"\d{5}", part) and prompt.count(part) == 1 for part in parts)
    others = 31 * NEEDLES + 30
    assert min(abs(prompt.index(part) - depth * (length - others)) for part in parts) < others + 20
    assert prompt.endswith(" are " if task == "multivalue" else " is ")


def test_multikey_has_other_keys_and_asks_for_one():
    prompt, answer = sample("multikey", 600)
    assert prompt.count("The pass key of") == NEEDLES + 1
    question = prompt[prompt.rindex("The pass key of") :]
    assert prompt.count(question + answer) == 1


def test_variable_tracking_needs_a_hop():
    prompt, _ = sample("variable-tracking", 600, 0.2)
    asked = prompt.rsplit("VAR ", 1)[1].split(" ")[0]
    first = prompt.split(f"VAR {asked} = VAR ")[1][:4]
    assert prompt.index(f"VAR {first} = ") < prompt.index(f"VAR {asked} = ")


@pytest.mark.parametrize("length", [SHORTEST_LENGTH, 5000])
def test_all_values_of_the_key_are_asked_for_in_their_order(length):
    for seed in range(20):
        prompt, answer = sample("multivalue", length, seed=seed)
        (key,) = set(re.findall(r"\nA value of (\w+) is \d{5}\.\n", prompt))
        stated = re.findall(rf"\nA value of {key} is (\d{{5}})\.\n", prompt)
        assert " ".join(stated) == answer
        assert len(set(stated)) == VALUES
        assert prompt.endswith(f"\nThe values of {key} are ")


@pytest.mark.parametrize("length", [SHORTEST_LENGTH, 193, 1000, 4096])
def test_the_common_words_are_those_that_a_count_of_the_whole_list_gives(length):
    asked = set()
    for seed in range(20):
        prompt, answer = sample("common-words", length, seed=seed)
        listed, question = prompt.split("\n")
        assert question == "The most common words are "
        words = re.findall("|".join(KEYS), listed)
        assert len(listed) - 5 * len(words) in range(5), "nothing else but what is too short for a word"
        ranked = Counter(words).most_common()
        assert " ".join(word for word, _ in ranked[: len(FREQUENCIES)]) == answer
        asked.add(answer)
    assert len(asked) == 20


def test_word_lists_of_all_lengths_have_no_ties():
    for count in [*range(SHORTEST_LIST, 200), 3267]:
        words, common = word_list(np.random.default_rng(count), count)
        counts = Counter(words)
        others = max(often for word, often in counts.items() if word not in common)
        ranks = [*(counts[word] for word in common), others]
        assert len(words) == count
        assert ranks == sorted(set(ranks), reverse=True), (count, ranks)
    assert [counts[word] / others for word in common] == pytest.approx(FREQUENCIES, rel=0.02)
    assert len(counts) == len(KEYS)


def test_a_window_of_the_list_does_not_tell_the_common_words():
    """A third of the answers at most are found by counting the last 26 words, which fit into 128 tokens."""
    found = 0
    for seed in range(200):
        words, common = word_list(np.random.default_rng(seed), 3200)
        found += [word for word, _ in Counter(words[-26:]).most_common(len(common))] == common
    assert found < 200 / 3


# ---------------------------------------------------------------- as a benchmark
@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A corpus, whose documents end often, write characters of several bytes, and spell special tokens."""
    folder = tmp_path_factory.mktemp("recall")
    for number in range(120):
        (folder / f"{number:03}.txt").write_text(f"{number}. Caf\u00e9 <s>\u4f60\u597d</s> <pad> {'words and ' * 12}")
    build_corpus(DataSettings([SourceSettings("text", str(folder))], heldout_fraction=0.5), folder / "corpus")
    return folder / "corpus"


@pytest.fixture(scope="module")
def tokenizer(corpus):
    return AutoTokenizer.from_pretrained(corpus / "tokenizer")


@pytest.mark.parametrize("task", TASKS)
def test_prompts_are_read_as_the_tokens_that_they_were_made_of(task, corpus, tokenizer):
    made = list(prepare(task, 600, 3, tokenizer, 5, corpus, [0.3]))
    heldout = np.load(corpus / "heldout.npy")
    generator = np.random.default_rng([5, list(TASKS).index(task), 600, 300 if TASKS[task].has_depth else 0])
    for sample in made:
        prompt, answer = TASKS[task].question(generator, heldout, 600, 0.3 if TASKS[task].has_depth else 0.0)
        read = np.array(encode_prompt(tokenizer, sample.prompt, sample.meta["special_tokens"]))
        assert len(read) == len(prompt) == 600 - sample.max_new_tokens
        assert " ".join(sample.answers) == decode_bytes(answer)
        assert sample.max_new_tokens == sample.meta["min_new_tokens"] == len(answer)
        # what no text stands for is a question mark: halves of characters, and what spells a special token
        differ = read != prompt
        assert set(read[differ]) <= {ord("?")}
        assert (read == EOS_ID).sum() == (prompt == EOS_ID).sum()
        assert "<s>" not in sample.prompt and "<pad>" not in sample.prompt
    if task != "common-words":  # which is made of words alone
        assert any(EOS_ID in encode_prompt(tokenizer, each.prompt, True) for each in made)


def test_prompts_do_not_depend_on_other_cells_or_on_how_many_there_are(corpus, tokenizer):
    def asked(**changes):
        given = {"task": "needle", "length": 512, "count": 2, "seed": 0, "depths": [0.0, 0.5]} | changes
        made = prepare(tokenizer=tokenizer, data_root=corpus, **given)
        return {(sample.id, sample.length): sample.prompt for sample in made}

    few = asked()
    assert len(set(few.values())) == 4
    assert few.items() <= asked(count=3, depths=[0.0, 0.25, 0.5]).items()
    assert not few.items() & asked(seed=1).items()
    assert not set(few.values()) & set(asked(length=256).values())


def test_a_task_without_depths_has_one_cell_of_as_many_samples(corpus, tokenizer):
    made = list(prepare("common-words", 256, 2, tokenizer, 0, corpus, [0.0, 0.5, 1.0]))
    assert [sample.id for sample in made] == ["0", "1", "2", "3", "4", "5"]
    assert len({sample.prompt for sample in made}) == 6
    assert all("depth" not in sample.meta and not sample.meta["stand_in"] for sample in made)


def test_what_cannot_be_asked_is_refused(corpus, tokenizer, tmp_path):
    assert check("needle", 100, 1, tokenizer, 0, corpus) == SHORTEST_LENGTH
    assert check("needle", SHORTEST_LENGTH, 1, tokenizer, 0, corpus) == 0
    refused = [
        (("riddle", 256, 1, tokenizer, 0, corpus), "task is 'riddle': allowed is needle, multikey"),
        (("needle", 256, 1, tokenizer, 0, None), "data_root is None: allowed is the folder of a corpus"),
        (("needle", 10**6, 1, tokenizer, 0, corpus), r"length is 1000000: allowed is less than the \d+ tokens of held"),
        (("needle", 256, 1, small_tokenizer(), 0, corpus), "tokenizer is .*: allowed is that of a corpus"),
        (("needle", 100, 1, tokenizer, 0, corpus), "length is 100: allowed are 192 tokens or more"),
    ]
    for given, message in refused:
        with pytest.raises(ConfigError, match=message):
            next(prepare(*given))
    with pytest.raises(ArtifactError, match=r"manifest\.json is missing: `longgen prepare"):
        next(prepare("needle", 256, 1, tokenizer, 0, tmp_path))


def answered(said: str, *parts: str) -> dict[str, float]:
    return score(Sample("recall", "multivalue", "0", "?", list(parts), len(said)), said)


@pytest.mark.parametrize(
    ("said", "exact", "share"),
    [("12 34", 1, 1), ("34 12", 0, 1), ("12 35", 0, 0.5), ("34 34", 0, 0.5), ("     ", 0, 0), ("1 2 3", 0, 0)],
)
def test_the_parts_of_an_answer_count_in_any_order(said, exact, share):
    assert answered(said, "12", "34") == {"exact": exact, "share": share}


def test_an_answer_of_one_part_is_right_or_wrong():
    assert answered("12345", "12345") == {"exact": 1.0}
    assert answered("1234", "12345") == answered("12345.", "12345") == {"exact": 0.0}


def test_the_score_of_every_sample_is_written_down_in_order():
    cell_scores = CellScores()
    cell_scores.scores[Cell("multivalue", 256, 0.5, "exact")] = [1.0, 0.0, 1.0]
    cell_scores.scores[Cell("multivalue", 256, 0.5, "share")] = [1.0, 0.25, 1.0]
    exact, share = score_records(benchmark("recall"), cell_scores)
    assert (exact["outcomes"], share["outcomes"]) == ([1.0, 0.0, 1.0], [1.0, 0.25, 1.0])
    assert (exact["score_low"], exact["score_high"]) == wilson_interval(2, 3)
    assert (share["score"], share["depth"], share["kv_fraction"]) == (0.75, 0.5, None)
    summaries = {
        (each["summary"], each["length"]): each["value"] for each in summary_records(benchmark("recall"), cell_scores)
    }
    assert summaries == {
        (f"multivalue {metric}", length): pytest.approx(value)
        for metric, value in (("exact", 100 * 2 / 3), ("share", 75.0))
        for length in (256, None)
    }
