"""RULER's prompts: lengths, depths, determinism, stand-ins, words, sentences, and what is refused."""

import json
import re
import sys
from dataclasses import asdict

import pytest
from transformers import AutoTokenizer

from longgen.data.synthetic.tokenizer import save_byte_tokenizer
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.benchmarks import benchmark
from longgen.evaluation.ruler import TASKS, data, frequent_words, prepare
from longgen.evaluation.ruler.counting import TokenCounter
from longgen.evaluation.ruler.essays import Essays, plain_sentences
from longgen.evaluation.ruler.tasks import find_task
from longgen.evaluation.ruler.words import HyphenatedPairs, keys, word_lists
from longgen.evaluation.runs.prompts import PromptSource, check_prompts
from tests.evaluation.ruler_data import small_tokenizer, write_official_data

ESSAY_TASKS = [task for task in TASKS if find_task(task).options.get("haystack") == "essay"]


@pytest.fixture(scope="module")
def tokenizer():
    return small_tokenizer()


def test_limits_of_answers():
    assert {task: find_task(task).max_new_tokens for task in TASKS if "niah" not in task} == {
        "vt": 30,
        "cwe": 120,
        "fwe": 50,
        "qa_1": 32,
        "qa_2": 32,
    }
    assert {find_task(task).max_new_tokens for task in TASKS if "niah" in task} == {128}


@pytest.mark.parametrize("task", TASKS)
def test_stand_ins_say_so_and_prompts_fill_their_length(tokenizer, task):
    """The official retreats: 500 words of an essay, 25 lines, 10 documents or words, and their like."""
    length = 8192
    samples = list(prepare(task, length, 4, tokenizer, 3))
    needs_data = task in ESSAY_TASKS or task.startswith("qa")
    assert [sample.meta["stand_in"] for sample in samples] == [needs_data] * 4
    assert [sample.id for sample in samples] == ["0", "1", "2", "3"]
    slack = {"niah": 3800, "qa": 8000}.get(find_task(task).family, 2200)
    for sample in samples:
        assert length - slack < sample.meta["tokens"] + sample.max_new_tokens <= length
        assert sample.length == length
        json.dumps(asdict(sample))


@pytest.mark.parametrize("task", ["niah_single_2", "vt", "cwe", "fwe", "qa_2"])
def test_same_seed_same_samples_another_seed_others(tokenizer, task):
    def made(seed, count):
        return [asdict(sample) for sample in prepare(task, 6000, count, tokenizer, seed)]

    assert made(5, 2) == made(5, 3)[:2]
    assert made(5, 2) != made(6, 2)


def test_needles_stand_at_their_depths(tokenizer, official):
    depths = []
    for task in ("niah_single_1", "niah_multikey_2", "niah_multivalue"):
        for sample in prepare(task, 6000, 10, tokenizer, 2, official):
            for answer, depth in zip(sample.answers, sample.meta["depths"], strict=True):
                assert sample.prompt.count(answer) == 1
                place = round(depth * len(sample.prompt))
                assert f": {answer}." in sample.prompt[place - 2 : place + 50]
                depths.append(depth)
    assert min(depths) < 0.2
    assert max(depths) > 0.8


def test_variables_of_the_example_are_not_those_asked_for(tokenizer):
    samples = list(prepare("vt", 4096, 3, tokenizer, 42))
    assert len({sample.prompt.split("Question:")[0] for sample in samples}) == 3, "a new example for every prompt"
    for sample in samples:
        assert sample.prompt.count("they are: ") == 2
        assert sample.meta["depths"] == sorted(sample.meta["depths"])
        assert sample.meta["depths"][0] > sample.prompt.index("they are: ") / len(sample.prompt)
        assert {len(answer) for answer in sample.answers} == {5}


def test_long_lists_of_words_take_them_from_the_greater_list(tokenizer, official):
    lists = {name: words[:20] for name, words in word_lists().items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("longgen.evaluation.ruler.words.word_lists", lambda: lists)
        (sample,) = prepare("cwe", 8192, 1, tokenizer, 1, official)
        assert not sample.meta["stand_in"]
        (other,) = prepare("cwe", 8192, 1, tokenizer, 1)
        assert other.meta["stand_in"]


def test_essay_sentences_hold_all_words_and_no_more():
    text = 'One, two.  Three four five! Six.\nSeven "eight." Nine'
    for count in range(1, 40):
        sentences = Essays(text, plain_sentences).sentences(count)
        assert len(" ".join(sentences).split()) == count


AWKWARD = (
    "It is implicit. (It is one of the objects.)4. A new notion follows here.",
    'He said "no." Then (as if!) he left... at 5 p.m. today. I. Asimov knew; "who?" asked all. End." So on.',
    "Notes[1].  See p. 4.)2. Dr. (No.)! x.y. Etc.) and so on.]",
)


@pytest.mark.parametrize("text", AWKWARD)
def test_essay_sentences_are_those_that_nltk_finds_in_so_many_words(text):
    """As the official niah.py has them, whatever was asked before."""
    splitter = pytest.importorskip("nltk.tokenize.punkt").PunktSentenceTokenizer()
    words = re.sub(r"\s+", " ", text).split(" ")
    shrinking = Essays(text, splitter.span_tokenize)
    shrinking.sentences(200)
    for count in range(60, 0, -1):
        official = splitter.tokenize(" ".join((words * 60)[:count]))
        assert shrinking.sentences(count) == official == Essays(text, splitter.span_tokenize).sentences(count)


def test_a_longer_text_asked_before_does_not_join_the_last_sentences():
    splitter = pytest.importorskip("nltk.tokenize.punkt").PunktSentenceTokenizer().span_tokenize
    essays = Essays(AWKWARD[0], splitter)
    assert len(essays.sentences(14)) == 3
    assert essays.sentences(9) == ["It is implicit.", "(It is one of the objects.", ")4."]


def test_without_nltk_the_error_says_what_to_install(tmp_path, monkeypatch, tokenizer):
    write_official_data(tmp_path / "ruler")
    monkeypatch.setitem(sys.modules, "nltk.tokenize.punkt", None)
    with pytest.raises(ConfigError, match="pip install nltk"):
        list(prepare("niah_single_2", 8192, 1, tokenizer, 1, tmp_path))


def test_pairs_of_words_are_sorted_as_strings():
    adjectives, nouns = ["blue", "blue-eyed", "ad hoc", "bluer", "Early", "blue"], ["eyed-x", "x", "CD", "bird", "x"]
    pairs = HyphenatedPairs(adjectives, nouns)
    assert [pairs[index] for index in range(len(pairs))] == sorted({f"{a}-{n}" for a in adjectives for n in nouns})
    assert len(keys()) == 910 * 6786


@pytest.mark.parametrize(
    ("task", "length", "count", "seed", "message"),
    [
        ("niah", 4096, 1, 1, "allowed with ruler are niah_single_1"),
        ("vt", 100, 1, 1, "length is 100"),
        ("vt", 4096, -1, 1, "count is -1"),
        ("vt", 4096, 1, -1, "seed is -1"),
        ("qa_2", 8192, 71, 1, "at most 70"),
        ("niah_single_2", 512, 1, 1, "greater length"),
    ],
)
def test_what_cannot_be_is_refused(tokenizer, official, task, length, count, seed, message):
    with pytest.raises(ConfigError, match=message):
        list(prepare(task, length, count, tokenizer, seed, official))


def test_coded_text_too_short_for_its_question_is_refused(tokenizer):
    with pytest.raises(ConfigError, match="greater length"):
        list(frequent_words.draws(find_task("fwe"), 300, 1, TokenCounter(tokenizer), 1, data.RulerData(None)))


def test_missing_and_damaged_files_are_named(tokenizer, tmp_path):
    with pytest.raises(ArtifactError, match=r"squad\.json does not exist"):
        list(prepare("qa_1", 4096, 1, tokenizer, 1, tmp_path))
    (tmp_path / "ruler").mkdir()
    (tmp_path / "ruler" / "hotpotqa.json").write_text("version https://git-lfs")
    with pytest.raises(ArtifactError, match=r"hotpotqa\.json is not JSON"):
        list(prepare("qa_2", 4096, 1, tokenizer, 1, tmp_path))
    (tmp_path / "ruler" / "hotpotqa.json").write_text('[{"question": "?"}]')
    with pytest.raises(ArtifactError, match=r"hotpotqa\.json, record 1: context is missing"):
        list(prepare("qa_2", 4096, 1, tokenizer, 1, tmp_path))


ANSWERED = {"question": "?", "answers": [{"text": "x"}], "is_impossible": False}
HOTPOT = {"question": "?", "answer": "x", "context": [["T", ["s."]]]}


def asked(**changes):
    return {"data": [{"paragraphs": [{"context": "c", "qas": [ANSWERED, ANSWERED | changes]}]}]}


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        ("niah_single_2", {"text": None}, "PaulGrahamEssays.json: text is None: allowed is text"),
        ("niah_single_2", {"text": " "}, "PaulGrahamEssays.json: text is ' ': allowed is text that is not blank"),
        ("niah_single_2", {"text": ["a"]}, r"PaulGrahamEssays.json: text is \['a'\]: allowed is text"),
        ("niah_single_2", {"text": "a \ud800"}, "PaulGrahamEssays.json: text is .*: allowed is UTF-8 text"),
        ("niah_single_2", ["a"], r"PaulGrahamEssays.json: the value is \['a'\]: allowed is a mapping with text"),
        ("qa_1", [], r"squad.json: the value is \[\]: allowed is a mapping with data"),
        ("qa_1", {"data": [{"paragraphs": {}}]}, r"squad.json, data\[0\]: paragraphs is {}: allowed is a list"),
        ("qa_1", {"data": []}, "squad.json has no question to ask: allowed are one or more with is_impossible false"),
        ("qa_1", {"data": [{"paragraphs": [{"context": "c", "qas": []}]}]}, "squad.json has no question to ask"),
        ("qa_1", asked(question=None), r"data\[0\]\.paragraphs\[0\]\.qas\[1\]: question is None: allowed is text"),
        ("qa_1", asked(answers=[]), r"qas\[1\]: answers is \[\]: allowed is a list of one or more"),
        ("qa_1", asked(answers=[{"text": None}]), r"qas\[1\]\.answers\[0\]: text is None: allowed is text"),
        ("qa_1", asked(is_impossible=0), r"qas\[1\]: is_impossible is 0: allowed is true or false"),
        ("qa_2", {}, r"hotpotqa.json: the file is {}: allowed is a list of one or more records"),
        ("qa_2", [], r"hotpotqa.json: the file is \[\]: allowed is a list of one or more records"),
        ("qa_2", [HOTPOT, HOTPOT | {"answer": None}], "hotpotqa.json, record 2: answer is None: allowed is text"),
        ("qa_2", [HOTPOT | {"context": [["T", "s."]]}], r"record 1: context\[0\] is \['T', 's.'\]: allowed is a title"),
        ("qa_2", [HOTPOT | {"context": []}], r"record 1: context is \[\]: allowed is a list of one or more"),
        ("qa_2", [HOTPOT | {"context": {"title": ["T"]}}], "record 1, context: sentences is missing"),
        (
            "qa_2",
            [HOTPOT | {"context": {"title": ["T"], "sentences": []}}],
            r"title is \['T'\]: allowed is a list of 0",
        ),
    ],
)
def test_bad_data_is_named_with_file_record_and_field(tokenizer, tmp_path, monkeypatch, task, content, message):
    monkeypatch.setattr(data, "punkt", lambda: plain_sentences)
    name = {"niah_single_2": "PaulGrahamEssays", "qa_1": "squad", "qa_2": "hotpotqa"}[task]
    (tmp_path / "ruler").mkdir()
    (tmp_path / "ruler" / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ArtifactError, match=message):
        list(prepare(task, 4096, 1, tokenizer, 1, tmp_path))


def test_hotpotqa_as_the_hub_has_it_gives_the_same_prompts(tokenizer, official):
    made = [asdict(sample) for sample in prepare("qa_2", 4096, 3, tokenizer, 1, official)]
    path = official / "ruler" / "hotpotqa.json"
    records = json.loads(path.read_text())
    for record in records:
        titles, sentences = zip(*record["context"], strict=True)
        record["context"] = {"title": titles, "sentences": sentences}
    path.write_text(json.dumps(records))
    assert [asdict(sample) for sample in prepare("qa_2", 4096, 3, tokenizer, 1, official)] == made


def test_a_length_is_checked_for_all_tasks_before_any_prompt_is_written(tmp_path):
    save_byte_tokenizer(tmp_path / "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    source = PromptSource(benchmark("ruler"), 1, tokenizer, "bytes", 0, None, tmp_path / "prompts")
    asked = r"length is 1024: .* allowed is ([\d,]+) or more .*about niah_single_2 [\d,]+\)"
    with pytest.raises(ConfigError, match=f"{asked}; ruler, task vt: tokenizer needs more than 500 tokens") as short:
        check_prompts(source, ["niah_single_1", "niah_single_2", "vt"], [1024])
    enough = int(re.match(asked, str(short.value))[1].replace(",", ""))
    for task in ("niah_single_1", "niah_single_2"):
        (sample,) = prepare(task, enough, 1, tokenizer, 0)
        assert len(sample.prompt.encode()) + sample.max_new_tokens <= enough
    with pytest.raises(ConfigError, match="ruler, task vt: length is None: allowed is at least 512 tokens"):
        check_prompts(source, ["vt"], [None])
    assert not (tmp_path / "prompts").exists()


def test_data_of_all_tasks_is_checked_before_any_prompt_is_written(tokenizer, official):
    source = PromptSource(benchmark("ruler"), 1, tokenizer, "small", 0, official, official / "prompts")
    check_prompts(source, ["vt", "qa_2"], [8192])
    (official / "ruler" / "hotpotqa.json").write_text("[{}]")
    with pytest.raises(ArtifactError, match=r"ruler, task qa_2: .*hotpotqa.json, record 1: context is missing"):
        check_prompts(source, ["vt", "qa_2"], [8192])
