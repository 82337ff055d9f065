"""BABILong's texts made from bAbI's stories and books: equal to those of the benchmark's own code."""

import hashlib
import json
import re

import numpy as np
import pytest

from longgen.data.tokenization import TextEncoder, encode_prompt
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.babilong import prepare
from longgen.evaluation.babilong.generator import Background, text_with_facts
from longgen.evaluation.babilong.stories import load_stories
from longgen.evaluation.benchmarks import benchmark
from tests.evaluation.ruler_data import small_tokenizer

pytest.importorskip("nltk")
# in the form of bAbI's files, written for LongGen
STORIES = """\
1 Ada moved to the bathroom.
2 Ben went to the hallway.
3 Where is Ada? \tbathroom\t1
4 Cleo journeyed to the garden.
5 Ada went back to the kitchen.
6 Where is Ada? \tkitchen\t5
7 Where is Cleo? \tgarden\t4
1 Ben travelled to the office.
2 Where is Ben? \toffice\t1
1 Cleo moved to the bedroom.
2 Ben moved to the bedroom.
3 Ada went to the hallway.
4 Where is Ben? \tbedroom\t2
5 Cleo went to the office.
6 Where is Cleo? \toffice\t5
"""
# by (tokens of a text, seed): made by running the benchmark's TaskDataset, SentenceSampler (shuffled) and
# NoiseInjectionDataset on the stories above, the books below and the tokenizer, all six stories one after another
OFFICIAL = {(300, 42): "f9c456d7755b7ba3", (1500, 42): "f3e815040b325a7a", (5000, 7): "59c9fbecb1835a51"}


def books():
    kinds = (
        "The {0} ship of {1} left the harbour at dawn, and nobody (not even its owner) knew why.",
        "\u201cWho is {1}?\u201d asked the {0} clerk.",
        "No. It was {0} again.",
        "In 18{0} Mr. {1} wrote: the tide is late,\nthe lamp is out!",
    )
    names = ("Harrow", "Ilse", "Varn", "Oda")
    return [
        " ".join(kinds[(i * i + book) % 4].format(10 + (7 * i + book) % 80, names[(i + book) % 4]) for i in range(size))
        for book, size in ((0, 120), (1, 0), (2, 300))
    ]


@pytest.fixture
def data_root(tmp_path):
    (tmp_path / "babi").mkdir()
    (tmp_path / "babi" / "qa1_where_test.txt").write_text(STORIES)
    (tmp_path / "books").mkdir()
    for number, book in enumerate(books()):
        (tmp_path / "books" / f"{number}.txt").write_text(book, "utf-8")
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def test_every_question_is_a_story_without_the_questions_before_it(data_root):
    stories = load_stories("qa1", data_root)
    assert [story.target for story in stories] == ["bathroom", "kitchen", "garden", "office", "bedroom", "office"]
    assert stories[2].facts == (
        "Ada moved to the bathroom.",
        "Ben went to the hallway.",
        "Cleo journeyed to the garden.",
        "Ada went back to the kitchen.",
    )
    assert stories[3].facts == ("Ben travelled to the office.",)
    assert stories[5].question == "Where is Cleo? "


@pytest.mark.parametrize(("size", "seed"), OFFICIAL)
def test_texts_are_those_of_the_official_code(tokenizer, data_root, size, seed):
    encode = TextEncoder(tokenizer)
    background, places = Background(books(), encode, seed), np.random.default_rng(seed)
    texts = []
    for story in load_stories("qa1", data_root):
        tokens = text_with_facts(story.facts, size, background, encode, places)
        assert len(tokens) == size
        texts.append(tokenizer.decode(tokens).strip())
    assert hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16] == OFFICIAL[size, seed]


@pytest.mark.parametrize("length", [2000, 5000])
def test_prompts_of_any_length_fit_and_hold_the_facts_in_order(tokenizer, data_root, length):
    samples = list(prepare("qa1", length, None, tokenizer, 0, data_root))
    for sample, story in zip(samples, load_stories("qa1", data_root), strict=True):
        assert length - 10 < len(encode_prompt(tokenizer, sample.prompt)) + sample.max_new_tokens <= length
        places = [sample.prompt.rindex(fact) for fact in story.facts]
        assert places == sorted(places)
        assert sample.answers == [story.target]
        assert sample.prompt.endswith(f"Question: {story.question.strip()}")
        assert sample.meta == {
            "stand_in": False,
            "config": str(length),
            "question": story.question,
            "generated": True,
        }


def test_a_text_depends_on_nothing_but_its_story_length_and_seed(tokenizer, data_root):
    every = {sample.id: sample for sample in prepare("qa1", 2500, None, tokenizer, 3, data_root)}
    chosen = list(prepare("qa1", 2500, 2, tokenizer, 3, data_root))
    assert all(every[sample.id] == sample for sample in chosen) and len(chosen) == 2
    other = list(prepare("qa1", 2500, None, tokenizer, 4, data_root))
    assert all(every[sample.id].prompt != sample.prompt for sample in other)


def test_length_zero_is_the_facts_alone(tokenizer, data_root):
    sample = next(prepare("qa1", 0, None, tokenizer, 0, data_root))
    assert "<context>\nAda moved to the bathroom. Ben went to the hallway.\n</context>" in sample.prompt
    assert sample.meta["config"] == "0k"


def test_stories_that_do_not_fit_are_left_out_and_the_least_length_is_named(tokenizer, data_root):
    with pytest.raises(ConfigError, match=r"length is 300: allowed is \d+ tokens or more") as refused:
        prepare("qa1", 300, None, tokenizer, 0, data_root)
    shortest = int(str(refused.value).split("allowed is ")[1].split()[0])
    told = list(prepare("qa1", shortest, None, tokenizer, 0, data_root))
    assert [sample.id for sample in told] == ["3"], "the story of one fact"
    assert len(encode_prompt(tokenizer, told[0].prompt)) + 20 <= shortest


def test_finished_texts_come_first(tokenizer, data_root):
    (data_root / "babilong" / "4k").mkdir(parents=True)
    record = {"input": "Ada went to the office.", "question": "Where is Ada? ", "target": "office"}
    (data_root / "babilong" / "4k" / "qa1.json").write_text(json.dumps([record]))
    (sample,) = prepare("qa1", 4096, None, tokenizer, 0, data_root)
    assert "generated" not in sample.meta and sample.meta["config"] == "4k"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Ada moved.", "line 1: is 'Ada moved.', allowed is a number and a sentence"),
        ("1 Ada moved.\n2 Where is Ada?\tkitchen", "line 2: is "),
        ("1 Ada moved.\n2 Where is Ada?\troof\t1", "line 2: the answer is 'roof': allowed is a label of qa1"),
        ("1 Is it the attic?\tattic\t1", "line 1: the answer is 'attic'"),
        (
            "2 Ada moved.\n3 Where is Ada? \tkitchen\t2",
            "line 1: the number is '2': allowed is 1, where a story begins$",
        ),
        ("0 Ada moved.", "line 1: the number is '0': allowed is 1"),
        (
            "1 Ada moved.\n3 Where is Ada? \tkitchen\t1",
            "line 2: the number is '3': allowed is 1, where a story begins, or 2, the next line of this one",
        ),
        ("1 Ada moved.\n2 Ben moved.\n2 Ada ran.", "line 3: the number is '2': allowed is 1, .* or 3, "),
        ("1 Ada moved.", "has no questions"),
        ("", "line 1: is ''"),
    ],
)
def test_bad_stories_are_named_with_file_and_line(tokenizer, data_root, content, message):
    (data_root / "babi" / "qa1_where_test.txt").write_text(content)
    with pytest.raises(ArtifactError, match=f"qa1_where_test.txt,? ?{message}"):
        prepare("qa1", 4096, None, tokenizer, 0, data_root)


def test_missing_stories_and_books_are_named(tokenizer, data_root):
    with pytest.raises(ArtifactError, match=r"babi/qa2_\*_test.txt: found none, allowed is one file"):
        prepare("qa2", 4096, None, tokenizer, 0, data_root)
    for path in (data_root / "books").iterdir():
        path.write_text("Too short. " * 3)
    named = rf"^{re.escape(str(data_root / 'books'))}/\*\.txt hold no sentences of 10 tokens or more"
    with pytest.raises(ArtifactError, match=named):
        prepare("qa1", 4096, None, tokenizer, 0, data_root)  # before the first text is asked for
    with pytest.raises(ArtifactError, match=named):
        benchmark("babilong").check("qa1", 4096, None, tokenizer, 0, data_root)
    for path in (data_root / "books").iterdir():
        path.write_text(" \n")
    with pytest.raises(ArtifactError, match=r"books/\*.txt hold no text"):
        prepare("qa1", 4096, None, tokenizer, 0, data_root)
    (data_root / "books").rename(data_root / "novels")
    with pytest.raises(ArtifactError, match="books is no folder: put books there"):
        prepare("qa1", 4096, None, tokenizer, 0, data_root)
