"""LongBench's scores: numbers that the benchmark's own metrics.py gave with its packages, and averages."""

# ruff: noqa: RUF001 (Chinese punctuation)

import random

import pytest

from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.longbench import E_SETS, SETS, averages, score, set_score
from longgen.evaluation.longbench.metrics import METRICS
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample

CLASSES = ["Date", "Location", "Other location", "Number", "Number of something"]

ENGLISH = [
    ("qa_f1", "\nThe  Eiffel-Tower, in Paris!", "eiffel tower", 0.0),  # punctuation leaves no space
    ("qa_f1", "a cat and a cat", "The cat", 0.5),
    ("qa_f1", "", "yes", 0.0),
    ("qa_f1", "the", "a", 0.0),  # nothing is left of either
    ("qa_f1", "an U.S. city\u2019s a", "us city s", 0.4),  # this apostrophe is no ASCII punctuation
    ("rouge", "Tom has the keys. Eve comes at six", "Tom found Eve's keys. Eve will come at six.", 0.5882352891349482),
    ("rouge", "", "a b", 0.0),
    ("rouge", "...", "a b", 0.0),
    ("rouge", " ", "a b", 0.0),
    ("rouge", "the the the cat", "the cat the", 0.4999999950000001),  # a word counts once
    ("rouge", "a c b d", "b a d c. d a", 0.4999999950000001),
    ("classification", "Date", "Date", 1.0),
    ("classification", "date", "Date", 0.0),
    ("classification", "", "Date", 0.0),
    ("classification", "Other location", "Other location", 1.0),
    ("classification", "Other location or Location", "Location", 0.5),
    ("classification", "It is a Number of something, not a Date", "Number of something", 0.5),  # Number does not count
    ("classification", "A Date. A Location.", "Location", 0.5),
    ("count", "There are 3 or 4, maybe 3", "3", 2 / 3),
    ("count", "three", "3", 0.0),
    ("count", "13", "3", 0.0),
    ("count", "03", "3", 0.0),
    ("retrieval", "Paragraph 12", "Paragraph 12", 1.0),
    ("retrieval", "12, that is paragraph 2 of 12", "Paragraph 12", 2 / 3),
    ("retrieval", "", "Paragraph 1", 0.0),
    ("retrieval_zh", "段落2和段落3", "段落2", 0.5),
    ("retrieval_zh", "第二段", "段落2", 0.0),
    ("code_sim", "\n\n    return x\n    y = 2", "    return x", 1.0),
    ("code_sim", "```python\n# add\nx += 1 // 2\nx += 1", "x += 2", 0.83),
    ("code_sim", "# only", "x", 0.0),
    ("code_sim", "", "", 1.0),
    ("code_sim", "return self.x", "self.value = x", 0.44),
    ("code_sim", "   \nreturn x", "return x", 0.18),  # white space is a line
    ("code_sim", "return tide", "return diet", 0.73),  # and 0.82 the other way round
    ("code_sim", "ab" * 120, "ab" * 120, 1.0),
    ("code_sim", "ab" * 120 + "c", "c" + "ba" * 120, 0.0),  # difflib takes what is frequent in a long line for junk
]
CHINESE = [
    ("qa_f1_zh", "答案是：下午五点。", "下午五点", 2 / 3),
    ("qa_f1_zh", "北京大学 GDP", "北京 gdp", 0.5),
    ("qa_f1_zh", "", "北京", 0.0),
    ("rouge_zh", "会议决定贴通知。", "会议讨论了社区菜园，决定在门口贴通知。", 0.588235289965398),
    ("rouge_zh", "增长3.5%", "增长了3.5%", 0.8571428522448981),
    ("rouge_zh", "", "会议", 0.0),
]


def sample(task, answers, **meta):
    return Sample("longbench", task, "1", "", answers, 1, None, meta)


@pytest.mark.parametrize(("metric", "prediction", "answer", "expected"), ENGLISH)
def test_as_the_benchmark_scores(metric, prediction, answer, expected):
    assert METRICS[metric](prediction, answer, CLASSES) == expected


@pytest.mark.parametrize(("metric", "prediction", "answer", "expected"), CHINESE)
def test_as_the_benchmark_scores_chinese(metric, prediction, answer, expected):
    pytest.importorskip("jieba")
    assert METRICS[metric](prediction, answer, []) == expected


def test_the_class_after_a_removed_one_stays():
    # "a" and "b" are both part of the answer; walking the list while removing from it, the benchmark misses "b"
    assert METRICS["classification"]("abcd", "abcd", ["a", "b", "abcd"]) == 0.5


@pytest.mark.parametrize(("metric", "longest"), [("rouge", 988), ("rouge_zh", 987)])
def test_what_is_too_long_for_the_package_scores_nothing(metric, longest):
    if metric == "rouge_zh":
        pytest.importorskip("jieba")
    assert METRICS[metric]("q " + "x " * longest, "q y", []) > 0
    assert METRICS[metric]("q " + "x " * (longest + 1), "q y", []) == 0


def test_rouge_of_long_texts_does_not_depend_on_the_depth_of_the_call():
    words = random.Random(5)
    first, second = (" ".join(words.choice("abcdef") for _ in range(400)) for _ in range(2))

    def deep(calls):
        return METRICS["rouge"](first, second, []) if calls == 0 else deep(calls - 1)

    assert deep(500) == 0.999999995


@pytest.mark.parametrize("task", ["trec", "triviaqa", "samsum", "lsht"])
def test_only_the_first_line_counts_in_few_shot_sets(task):
    of = sample(task, ["Date"], classes=CLASSES)
    assert score(of, "\n\nDate\nLocation or anything else")["score"] > 0.99
    assert score(of, " \nDate")["score"] == 0  # a blank first line is a line


def test_other_sets_read_all_lines():
    assert score(sample("hotpotqa", ["Oslo"]), "The\nOslo")["score"] == 1


def test_the_best_of_several_answers_counts():
    assert score(sample("triviaqa", ["river", "the river Mell", "Mell"]), "Mell")["score"] == 1
    assert score(sample("triviaqa", []), "Mell")["score"] == 0


def test_sets_of_longbench_e_are_scored_as_their_counterparts():
    of = sample("trec_e", ["Date"], classes=CLASSES, bucket="4-8k")
    assert score(of, "\nDate\n") == {"score": 1, "score, 4-8k": 1}


def test_a_paragraph_without_number_is_refused():
    with pytest.raises(ArtifactError, match="names no paragraph"):
        score(sample("passage_retrieval_en", ["the second"]), "2")


def test_every_metric_of_the_protocol_exists():
    assert {rules["metric"] for rules in protocol("longbench")["sets"].values()} == set(METRICS)


def test_a_set_in_percent():
    assert set_score([1, 0.5, 1 / 3]) == 61.11
    with pytest.raises(ConfigError, match="scores"):
        set_score([])


# ChatGLM3-6B-32k in the benchmark's README: the sets, then the means of its two tables.
NUMBERS = """
    26.0 43.3 51.7 62.3  54.4 44.9 40.4 44.78  36.8 23.9 27.9 17.8  79.0 87.1 38.2 42.0  2.0 99.0 94.0  57.66 54.76
"""
PUBLISHED = dict(zip(SETS, map(float, NUMBERS.split()), strict=True))


@pytest.mark.parametrize(
    ("language", "expected"),
    [("en", [40.3, 46.6, 29.5, 68.1, 50.5, 56.2, 48.5]), ("zh", [62.3, 44.8, 17.8, 42.0, 94.0, 56.2, 52.8])],
)
def test_averages_are_those_of_the_published_tables(language, expected):
    assert list(averages(PUBLISHED, language).values()) == pytest.approx(expected, abs=0.06)


def test_no_average_of_what_is_not_complete():
    part = {name: value for name, value in PUBLISHED.items() if name != "gov_report"}
    assert list(averages(part, "zh")) == list(averages(PUBLISHED, "zh"))
    assert not {"summarization", "average"} & set(averages(part, "en"))
    assert averages({}, "en") == {}


def test_averages_of_longbench_e_are_over_its_own_sets():
    scores = dict.fromkeys(E_SETS, 10.0) | {"qasper_e": 30.0}
    assert averages(scores, "en")["single-document QA"] == 20
    assert averages(scores, "en")["average"] == pytest.approx((20 + 5 * 10) / 6)
    with pytest.raises(ConfigError, match="not both"):
        averages(scores | {"qasper": 1.0}, "en")
