"""RULER's prompts are those of the official scripts, letter by letter."""

import hashlib
import json

import pytest

from longgen.evaluation.ruler import TASKS, prepare
from tests.evaluation.ruler_data import small_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def digest(samples):
    content = json.dumps([[sample.prompt, sample.answers, sample.meta["tokens"]] for sample in samples])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


# Made by running the scripts of the official repository on the files and the tokenizer of `ruler_data`: three samples
# each.
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


@pytest.mark.slow
@pytest.mark.parametrize(("length", "seed", "task"), [(*place, task) for place in GOLDEN for task in TASKS])
def test_prompts_are_those_of_the_official_scripts(tokenizer, official, length, seed, task):
    samples = list(prepare(task, length, 3, tokenizer, seed, official))
    assert digest(samples) == GOLDEN[length, seed][task]
    assert [sample.meta["stand_in"] for sample in samples] == [False] * 3
    for sample in samples:
        assert sample.meta["tokens"] == len(tokenizer.tokenize(sample.prompt)) <= length - sample.max_new_tokens
