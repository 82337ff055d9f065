"""BABILong: prompts, scores that the benchmark's own compare_answers gave, data and stand-in text."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.babilong import CONFIGS, TASKS, accuracy, average, prepare, score
from longgen.evaluation.babilong.prompts import prompt_of
from longgen.evaluation.babilong.stand_in import filler_sentence
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample

RECORD = {"input": " Mary went to the office. ", "question": "Where is Mary? ", "target": "office"}


def test_there_are_twenty_tasks_and_the_official_lengths():
    assert list(TASKS) == [f"qa{number}" for number in range(1, 21)]
    assert [CONFIGS[length] for length in (0, 1024, 4096, 131072, 1 << 20)] == ["0k", "1k", "4k", "128k", "1M"]


def test_the_prompt_is_the_default_template():
    assert prompt_of("qa4", "\n facts \n", "What is north of the {hall}? ") == (
        "I will give you context with the facts about different people, their location and actions, hidden in some "
        "random text and a question. You need to answer the question based only on the information from the facts.\n\n"
        "<example>\nThe hallway is south of the kitchen. The bedroom is north of the kitchen. What is the kitchen "
        "south of?\nAnswer: bedroom\n</example>\n<example>\nThe garden is west of the bedroom. The bedroom is west of "
        "the kitchen. What is west of the bedroom?\nAnswer: garden\n</example>\n\n"
        "Your answer should contain only one word - location. Do not write anything else after that.\n\n"
        "<context>\nfacts\n</context>\n\nQuestion: What is north of the {hall}?"
    )


def test_oddities_of_the_official_strings_are_kept():
    tasks = protocol("babilong")["tasks"]
    assert "a question.You need" in tasks["qa2"]["instruction"]
    assert tasks["qa10"]["examples"].endswith("</example>\n<context>\n")  # a context that is never closed
    assert "\u2019person\u2019 is \u2019location\u2019" in tasks["qa1"]["post_prompt"]
    assert "Answer: yes\n</example><example>" in tasks["qa17"]["examples"]


@pytest.mark.parametrize(
    ("task", "target", "prediction", "expected"),
    [
        ("qa1", "office", "The most recent location of Mary is office.", 1),
        ("qa1", "office", "\n OFFICE", 1),
        ("qa1", "office", "", 0),
        ("qa1", "office", "office or garden", 0),
        ("qa1", "office", "office. Not the garden", 1),  # one sentence is read
        ("qa1", "office", ". office", 0),
        ("qa1", "office", "office <context> garden", 1),
        ("qa1", "office", "office\n<EXAMPLE> garden", 1),
        ("qa1", "office", "office\nQuestion: Where is the garden", 0),  # the cut at "Question" never happens
        ("qa1", "office", "the post-offices", 1),
        ("qa5", "Bill", "bill", 1),
        ("qa6", "no", "I do not know", 1),
        ("qa7", "none", "none", 0),  # "one" is in it
        ("qa7", "one", "one", 1),
        ("qa8", "apple,milk", "milk and apple", 1),
        ("qa8", "apple,milk", "apple", 0),
        ("qa8", "apple,milk", "apple, milk, football", 0),
        ("qa10", "maybe", "maybe not", 0),
        ("qa19", "n,w", "n,w", 1),
        ("qa19", "n,w", "n, w", 0),
    ],
)
def test_as_the_benchmark_scores(task, target, prediction, expected):
    sample = Sample("babilong", task, "0", "", [target], 20, None, {"question": "Where is Mary?"})
    assert score(sample, prediction) == expected


def test_labels_of_the_question_do_not_count():
    sample = Sample("babilong", "qa3", "0", "", ["office"], 20, None, {"question": "Before the Kitchen?"})
    assert score(sample, "Before the kitchen the apple was in the office.") == 1
    asked = Sample("babilong", "qa3", "0", "", ["kitchen"], 20, None, {"question": "Before the Kitchen?"})
    assert score(asked, "kitchen") == 0


def test_averages():
    assert accuracy([1, 0, 1, 1]) == 75
    with pytest.raises(ConfigError, match="scores"):
        accuracy([])
    five = {f"qa{number}": 10.0 * number for number in range(1, 6)}
    assert average(five | {"qa6": 1000.0}) == 30
    assert average({task: value for task, value in five.items() if task != "qa3"}) is None


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".parquet"])
def test_local_files_of_the_official_schema(suffix, tokenizer, tmp_path):
    path = tmp_path / "babilong" / "4k" / f"qa1{suffix}"
    path.parent.mkdir(parents=True)
    records = [RECORD, RECORD | {"target": "garden", "extra": 1}]
    if suffix == ".parquet":
        pytest.importorskip("datasets").Dataset.from_list(records).to_parquet(path)
    else:
        path.write_text(json.dumps(records) if suffix == ".json" else "\n".join(map(json.dumps, records)))
    first, second = prepare("qa1", 4096, None, tokenizer, 0, tmp_path)
    assert (first.id, first.answers, first.max_new_tokens, first.length) == ("0", ["office"], 20, 4096)
    assert first.meta == {"stand_in": False, "config": "4k", "question": "Where is Mary? "}
    assert first.prompt.endswith("<context>\nMary went to the office.\n</context>\n\nQuestion: Where is Mary?")
    assert second.answers == ["garden"]
    (chosen,) = prepare("qa1", 4096, 1, tokenizer, 0, tmp_path)
    assert chosen in (first, second)


def test_a_dataset_laid_out_as_on_the_hub(tokenizer, tmp_path):
    pytest.importorskip("datasets")
    (tmp_path / "data" / "qa2").mkdir(parents=True)
    (tmp_path / "data" / "qa2" / "0k.json").write_text(json.dumps([RECORD]))
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n  - config_name: 0k\n    data_files:\n      - split: qa2\n        path: data/qa2/0k.json\n---\n"
    )
    (sample,) = prepare("qa2", None, None, tokenizer, 0, Path(f"hub:{tmp_path}"))
    assert sample.answers == ["office"] and not sample.meta["stand_in"]
    with pytest.raises(ArtifactError, match="0k, qa3: cannot be read"):
        prepare("qa3", None, None, tokenizer, 0, Path(f"hub:{tmp_path}"))


def test_bad_data_is_named(tokenizer, tmp_path):
    with pytest.raises(ArtifactError, match=r"qa1 with suffix .json, .jsonl, .parquet: found none"):
        prepare("qa1", 0, None, tokenizer, 0, tmp_path)
    path = tmp_path / "babilong" / "0k" / "qa1.json"
    path.parent.mkdir(parents=True)
    for content, message in [
        ([RECORD, {"input": "", "question": ""}], "qa1.json, record 2: target is missing"),
        ([RECORD | {"target": 3}], "qa1.json, record 1: target is 3: allowed is text"),
        (
            [RECORD, RECORD | {"target": "roof"}],
            "qa1.json, record 2: target is 'roof': allowed is a label of qa1 .* bath",
        ),
        (
            [RECORD | {"question": "Is Mary in the office?"}],
            "record 1: target is 'office': allowed is a label of qa1 that the question does not name: bathroom, ",
        ),
        ([RECORD | {"input": ""}], "record 1: input is '': allowed is text that is not blank"),
        ([RECORD | {"question": " "}], "record 1: question is ' ': allowed is text that is not blank"),
        ({"qa1": []}, "qa1.json: is dict, allowed is a list"),
        ([], "no records"),
    ]:
        path.write_text(json.dumps(content))
        with pytest.raises(ArtifactError, match=message):
            prepare("qa1", 0, None, tokenizer, 0, tmp_path)
    path.with_suffix(".jsonl").write_text("")
    with pytest.raises(ArtifactError, match=r"found qa1.json and qa1.jsonl"):
        prepare("qa1", 0, None, tokenizer, 0, tmp_path)


def test_unknown_tasks_and_lengths_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="task is 'qa21'"):
        prepare("qa21", 0, None, tokenizer, 0)
    with pytest.raises(ConfigError, match=r"length is 4000: allowed is one of .*4096 \(4k\)"):
        prepare("qa1", 4000, None, tokenizer, 0)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_stand_in_stories_with_right_answers(task, tokenizer):
    samples = list(prepare(task, 0, None, tokenizer, 0))
    assert len(samples) == 3
    for sample in samples:
        assert sample.meta["stand_in"]
        assert score(sample, sample.answers[0]) == 1
        assert score(sample, "nobody knows") == (
            task in ("qa6", "qa9", "qa10", "qa17", "qa18") and sample.answers == ["no"]
        )


def test_stand_in_text_fills_the_length_and_keeps_the_facts_in_order(tokenizer):
    bare = list(prepare("qa2", 0, None, tokenizer, 5))
    hidden = list(prepare("qa2", 4096, None, tokenizer, 5))
    assert hidden == list(prepare("qa2", 4096, None, tokenizer, 5)) != list(prepare("qa2", 4096, None, tokenizer, 6))
    for short, long in zip(bare, hidden, strict=True):
        assert 4096 - 120 < len(tokenizer(long.prompt).input_ids) + 20 <= 4096
        facts = re.search("<context>\n(.*)\n</context>", short.prompt)[1]
        context = long.prompt[long.prompt.index("<context>") :]
        assert re.search(".*".join(map(re.escape, facts.split(". "))), context)


def test_stand_in_text_that_does_not_fit_says_what_does(tokenizer):
    with pytest.raises(ConfigError, match=r"length is 1024: allowed is \d+ tokens or more"):
        prepare("qa2", 1024, None, tokenizer, 0)


def test_filler_says_nothing_about_what_is_asked():
    generator = np.random.default_rng(0)
    words = {word.strip(".").lower() for _ in range(2000) for word in filler_sentence(generator).split()}
    labels = {label.lower() for task in protocol("babilong")["tasks"].values() for label in task["labels"]}
    assert not words & (labels | {"mary", "john", "daniel", "sandra", "julie", "yann", "sumit", "antoine"})
