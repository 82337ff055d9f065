"""LongBench's prompts and records."""

# ruff: noqa: RUF001 (Chinese punctuation)

import json
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest

from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.longbench import E_SETS, SETS, TASKS, prepare, score
from longgen.evaluation.longbench.prompts import bucket, truncate_middle
from longgen.evaluation.protocol import protocol
from longgen.evaluation.sources import choose
from tests.data.test_tokenization import byte_level

RECORD = {
    "input": "Who {rang}?",
    "context": "Ilse rang. " * 3,
    "answers": ["Ilse"],
    "length": 5000,
    "dataset": "hotpotqa",
    "language": "en",
    "all_classes": None,
    "_id": "a1",
}


def write(root, *records, task="hotpotqa"):
    path = root / "longbench" / f"{task}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n\n".join(map(json.dumps, records)) + "\n", encoding="utf-8")
    return path


def test_the_benchmark_has_21_sets_and_13_of_them_by_length():
    assert (len(SETS), len(E_SETS), len(set(TASKS))) == (21, 13, 34)
    assert "qasper_e" in E_SETS and "narrativeqa_e" not in E_SETS


@pytest.mark.parametrize("task", TASKS)
def test_every_set_has_stand_in_records_whose_answers_are_right(task, tokenizer):
    samples = list(prepare(task, None, None, tokenizer, seed=0))
    assert len(samples) >= 2 and all(sample.meta["stand_in"] for sample in samples)
    if protocol("longbench")["sets"][task.removesuffix("_e")]["metric"].endswith("_zh") and "retrieval" not in task:
        pytest.importorskip("jieba")
    for sample in samples:
        assert score(sample, sample.answers[-1])["score"] > 0.99
        assert score(sample, "nothing of the kind: 77777")["score"] < 0.5


def test_a_prompt_is_the_template_with_the_record(tokenizer, tmp_path):
    write(tmp_path, RECORD)
    (sample,) = prepare("hotpotqa", None, None, tokenizer, 0, tmp_path)
    assert sample.prompt == (
        "Answer the question based on the given passages. Only give me the answer and do not output any other words."
        "\n\nThe following are given passages.\nIlse rang. Ilse rang. Ilse rang. \n\n"
        "Answer the question based on the given passages. Only give me the answer and do not output any other words."
        "\n\nQuestion: Who {rang}?\nAnswer:"
    )
    assert asdict(sample) == {
        "benchmark": "longbench",
        "task": "hotpotqa",
        "id": "a1",
        "prompt": sample.prompt,
        "answers": ["Ilse"],
        "max_new_tokens": 32,
        "length": None,
        "meta": {"stand_in": False, "language": "en", "bucket": "4-8k", "truncated": False},
    }


@pytest.mark.parametrize(
    ("task", "end"),
    [
        ("narrativeqa", "Question: Q\n\nAnswer:"),  # "asconcisely" and all
        ("multi_news", "C\n\nNow, write a one-page summary of all the news.\n\nSummary:"),
        ("passage_count", "such as 1, 2, 3, and so on.\n\nThe final answer is: "),
        ("lcc", "CNext line of code:\n"),
        ("repobench-p", "CQNext line of code:\n"),
        ("lsht", "请判断给定新闻的类别，下面是一些例子。\n\nC\nQ"),
        ("vcsum", "会议记录：\nC\n\n会议总结："),
    ],
)
def test_templates_to_the_last_space(task, end, tokenizer):
    assert protocol("longbench")["sets"][task]["prompt"].format(context="C", input="Q").endswith(end)


def test_only_samsum_stops_at_a_newline(tokenizer):
    stops = {task: next(prepare(task, None, 1, tokenizer, 0)).meta.get("stop") for task in SETS}
    assert {task for task, stop in stops.items() if stop} == {"samsum"} and stops["samsum"] == "\n"


@pytest.mark.parametrize(("length", "expected"), [(26, "abcdefghijklmnopqrstuvwxyz"), (7, "abcxyz"), (2, "az")])
def test_the_middle_is_cut_out(length, expected, tokenizer):
    assert truncate_middle("abcdefghijklmnopqrstuvwxyz", length, tokenizer) == expected


@pytest.mark.parametrize("template", ["<s> $A", "<s> $A </s>"])
def test_bos_counts_but_is_not_in_the_prompt_and_eos_is_nowhere(template):
    tokenizer = byte_level(template)
    assert truncate_middle("abcdef", 6, tokenizer) == "abdef"
    assert truncate_middle("abcdef", 7, tokenizer) == "abcdef"


def test_text_that_spells_a_special_token_stays_in_a_cut_prompt():
    assert truncate_middle("a</s>bcdef<s>", 12, byte_level("<s> $A")) == "a</s>def<s>"


def test_cut_prompts_say_so(tokenizer, tmp_path):
    write(tmp_path, RECORD)
    (sample,) = prepare("hotpotqa", 50, None, tokenizer, 0, tmp_path)
    assert sample.meta["truncated"] and sample.length == 50 and len(sample.prompt) == 50


def test_intervals_end_before_their_upper_bounds():
    assert [bucket(length) for length in (0, 3999, 4000, 7999, 8000)] == ["0-4k", "0-4k", "4-8k", "4-8k", "8k+"]


def test_the_choice_depends_on_the_seed_alone_and_grows_with_the_count():
    assert choose(10, None, 0) == choose(10, 99, 3) == list(range(10))
    assert choose(10, 4, 7) == choose(10, 4, 7) != choose(10, 4, 8)
    assert set(choose(10, 4, 7)) < set(choose(10, 6, 7))
    with pytest.raises(ConfigError, match="count"):
        choose(10, 0, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": "Ilse"}, "line 3: answers is 'Ilse': allowed is a list"),
        ({"answers": ["Ilse", 3]}, r"line 3: answers\[1\] is 3: allowed is text"),
        ({"context": None}, "line 3: context is None"),
        ({"input": "\ud800"}, "line 3: input is not UTF-8 text"),
        ({"_id": "a1"}, "line 3: _id 'a1' occurs twice"),
    ],
)
def test_a_bad_record_is_named_with_file_line_and_key(change, message, tokenizer, tmp_path):
    write(tmp_path, RECORD, RECORD | {"_id": "a2"} | change)
    with pytest.raises(ArtifactError, match=f"hotpotqa.jsonl, {message}"):
        prepare("hotpotqa", None, None, tokenizer, 0, tmp_path)


def test_other_bad_data_is_refused(tokenizer, tmp_path):
    with pytest.raises(ArtifactError, match=r"qasper.jsonl is missing"):
        prepare("qasper", None, None, tokenizer, 0, tmp_path)
    path = write(tmp_path, {key: value for key, value in RECORD.items() if key != "context"})
    with pytest.raises(ArtifactError, match="line 1: context is missing, allowed are records with input, "):
        prepare("hotpotqa", None, None, tokenizer, 0, tmp_path)
    for text, message in (
        ("{", r"line 1: not JSON \(Expecting .* at character 2\)"),
        ("[]", "line 1: is list"),
        ("\n", "no records"),
    ):
        path.write_text(text)
        with pytest.raises(ArtifactError, match=message):
            prepare("hotpotqa", None, None, tokenizer, 0, tmp_path)


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("hotpotqa", {"dataset": "qasper"}, "dataset is 'qasper': allowed is 'hotpotqa'"),
        ("hotpotqa", {"dataset": "hotpotqa_e"}, "dataset is 'hotpotqa_e': allowed is 'hotpotqa'"),
        ("hotpotqa_e", {"dataset": "qasper_e"}, "dataset is 'qasper_e': allowed is 'hotpotqa_e' or 'hotpotqa'"),
        ("hotpotqa", {"language": "zh"}, "language is 'zh': allowed is 'en'"),
        ("dureader", {"language": "en"}, "language is 'en': allowed is 'zh'"),
        ("lcc", {"language": "en"}, "language is 'en': allowed is a programming language"),
        ("hotpotqa", {"context": ""}, "context is '': allowed is a text that is not blank"),
        ("lcc", {"context": " \n"}, r"context is ' \\n': allowed is a text that is not blank"),
        ("hotpotqa", {"answers": []}, r"answers is \[\]: allowed is a list of right answers"),
        ("hotpotqa", {"answers": [" "]}, r"answers is \[' '\]: allowed is a list of right answers"),
        ("hotpotqa", {"answers": ["the", "..."]}, r"answers is \['the', '...'\]: allowed is .* with words"),
        ("dureader", {"answers": ["。"]}, r"answers is \['。'\]: allowed is one or more answers with words"),
        ("gov_report", {"answers": ["... ."]}, r"answers is .*: allowed is one or more answers with words"),
        ("multifieldqa_zh", {"answers": ["、 !"]}, r"answers is .*: allowed is one or more answers with words"),
        ("vcsum", {"answers": ["."]}, r"answers is .*: allowed is one or more answers with words"),
        ("hotpotqa", {"length": 0}, "length is 0: allowed is a whole number > 0"),
        ("trec", {}, "all_classes is None: allowed is the classes of trec"),
        (
            "trec",
            {"all_classes": ["Date"]},
            r"answers is \['Ilse'\]: allowed is one of all_classes, which are \['Date'\]",
        ),
        ("passage_count", {"answers": ["three"]}, r"answers is \['three'\]: allowed is text of the form .*d"),
        ("passage_retrieval_en_e", {"answers": ["7"]}, r"answers is \['7'\]: allowed is text of the form Paragraph"),
        ("passage_retrieval_zh", {"answers": ["Paragraph 7"]}, r"answers is .*: allowed is text of the form 段落"),
    ],
)
def test_records_of_another_set_and_answers_that_cannot_score_are_refused(task, change, message, tokenizer, tmp_path):
    chinese = ("dureader", "multifieldqa_zh", "passage_retrieval_zh", "vcsum")
    language = "zh" if task in chinese else "python" if task == "lcc" else "en"
    write(tmp_path, RECORD | {"dataset": task, "language": language} | change, task=task)
    with pytest.raises(ArtifactError, match=rf"{task}.jsonl, line 1: {message}"):
        prepare(task, None, None, tokenizer, 0, tmp_path)


@pytest.mark.parametrize(
    ("task", "change"),
    [
        ("hotpotqa_e", {}),
        ("hotpotqa_e", {"dataset": "hotpotqa_e"}),
        ("lcc", {"dataset": "lcc", "language": "csharp", "answers": [""]}),
        ("trec", {"dataset": "trec", "all_classes": ["Ilse", "Date"]}),
        ("passage_count_e", {"dataset": "passage_count", "answers": ["12"]}),
    ],
)
def test_what_the_official_records_may_be_is_read(task, change, tokenizer, tmp_path):
    write(tmp_path, RECORD | change, task=task)
    (sample,) = prepare(task, None, None, tokenizer, 0, tmp_path)
    assert not sample.meta["stand_in"]
    assert score(sample, sample.answers[0])["score"] == 1


def test_unknown_tasks_and_lengths_are_refused(tokenizer):
    with pytest.raises(ConfigError, match="task is 'vcsum_e'"):
        prepare("vcsum_e", None, None, tokenizer, 0)
    with pytest.raises(ConfigError, match="length is 1"):
        prepare("vcsum", 1, None, tokenizer, 0)


def test_the_hub_is_read_from_the_archive_of_the_dataset(tokenizer, tmp_path, monkeypatch):
    asked = []
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("data/qasper_e.jsonl", json.dumps(RECORD | {"dataset": "qasper"}))

    def download(*arguments, **options):
        asked.append((*arguments, options["revision"]))
        return tmp_path / "data.zip"

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    (sample,) = prepare("qasper_e", None, None, tokenizer, 0, Path("hub:"))
    assert sample.id == "a1" and not sample.meta["stand_in"]
    with pytest.raises(ArtifactError, match=r"own/copy: data/lcc.jsonl of data.zip cannot be had"):
        prepare("lcc", None, None, tokenizer, 0, Path("hub:own/copy@v2"))
    assert asked == [("THUDM/LongBench", "data.zip", None), ("own/copy", "data.zip", "v2")]


@pytest.mark.parametrize(("task", "answers"), [("hotpotqa", ["the", "Ilse"]), ("gov_report", ["the"])])
def test_one_answer_that_can_score_will_do(task, answers, tokenizer, tmp_path):
    write(tmp_path, RECORD | {"dataset": task, "answers": answers}, task=task)
    assert len(list(prepare(task, None, None, tokenizer, 0, tmp_path))) == 1
