"""Samples of the retrieval tasks: exact lengths, one answer, and that it follows from the prompt and nothing else."""

import hashlib
import re
from collections import Counter

import numpy as np
import pytest

from longgen.data.synthetic.recall import FREQUENCIES, KEYS, SHORTEST_LIST, word_list
from longgen.data.synthetic.tokenizer import decode_bytes, encode_bytes
from longgen.evaluation.tasks import MULTIKEY_NEEDLES, MULTIVALUE_VALUES, SHORTEST_LENGTH, TASKS, parts_given

TEXT = encode_bytes("".join(f"Sentence {i} says little. " for i in range(400)))


def sample(task: str, length: int, depth: float = 0.5, seed: int = 5) -> tuple[str, str]:
    made = TASKS[task].sample(np.random.default_rng(seed), TEXT, length, depth)
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
            made = TASKS[task].sample(np.random.default_rng([7, length]), TEXT, length, depth)
            seen.update(made.prompt.astype("<u2").tobytes() + made.answer.astype("<u2").tobytes())
    assert seen.hexdigest()[:16] == digest


@pytest.mark.parametrize("task", [name for name in TASKS if name != "common-words"])
@pytest.mark.parametrize("length", [SHORTEST_LENGTH, 256, 1000])
@pytest.mark.parametrize("depth", [0.0, 0.3, 1.0])
def test_what_is_asked_for_stands_once_and_one_of_it_at_its_depth(task, length, depth):
    prompt, answer = sample(task, length, depth)
    parts = answer.split(" ")
    assert len(parts) == (MULTIVALUE_VALUES if task == "multivalue" else 1)
    assert all(re.fullmatch(r"\d{5}", part) and prompt.count(part) == 1 for part in parts)
    others = 31 * MULTIKEY_NEEDLES + 30
    assert min(abs(prompt.index(part) - depth * (length - others)) for part in parts) < others + 20
    assert prompt.endswith(" are " if task == "multivalue" else " is ")


def test_multikey_has_other_keys_and_asks_for_one():
    prompt, answer = sample("multikey", 600)
    assert prompt.count("The pass key of") == MULTIKEY_NEEDLES + 1
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
        assert len(set(stated)) == MULTIVALUE_VALUES
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


@pytest.mark.parametrize(
    ("said", "given"),
    [("12 34", "yy"), ("34 12", "yy"), ("12 35", "yn"), ("34 34", "ny"), ("     ", "nn"), ("1 2 3", "nn")],
)
def test_the_parts_of_an_answer_count_in_any_order(said, given):
    assert parts_given(encode_bytes(said), encode_bytes("12 34")) == [each == "y" for each in given]
