"""RULER's scores and tables: by hand, and the official README's own rows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longgen.errors import ConfigError
from longgen.evaluation.benchmarks import benchmark
from longgen.evaluation.ruler import TASKS, null_count, score
from longgen.evaluation.ruler.scoring import effective_length, length_average, task_score, weighted_averages
from longgen.evaluation.samples import Sample

LENGTHS = [4096 << step for step in range(6)]


def sample(task, answers):
    return Sample("ruler", task, "0", "prompt", answers, 10)


@pytest.mark.parametrize(
    ("task", "answers", "prediction", "expected"),
    [
        ("niah_single_1", ["1234567"], "1234567", 1),
        ("niah_single_1", ["1234567"], "\n\n 1234567.\nOne of the", 1),
        ("niah_single_1", ["1234567"], "91234567890", 1),  # a substring is enough
        ("niah_single_1", ["1234567"], "1234 567", 0),
        ("niah_single_1", ["1234567"], "123\x004567", 0),  # control characters become newlines
        ("niah_single_1", ["1234567"], "", 0),
        ("niah_multivalue", ["1111111", "2222222", "3333333", "4444444"], "4444444, 1111111 and 5555555", 0.5),
        ("niah_multivalue", ["1111111", "1111111"], "1111111", 1),  # repeated answers count each
        ("vt", ["ABCDE", "FGHIJ", "KLMNO", "PQRST", "UVWXY"], "abcde fghij", 0.4),
        ("cwe", [f"word{i}x" for i in range(10)], "1. WORD0X 2. word9x", 0.2),
        ("fwe", ["abcdef", "ghijkl", "mnopqr"], "mnopqr\tabcdef", 2 / 3),
        ("qa_1", ["the Normans", "Norman"], "normandy", 1),
        ("qa_1", ["Denmark", "Iceland", "Norway"], "Iceland", 1),
        ("qa_2", ["yes"], "Eyes of blue", 1),
        ("qa_2", ["yes"], " \x1f\n", 0),
    ],
)
def test_score(task, answers, prediction, expected):
    assert score(sample(task, answers), prediction) == expected
    assert benchmark("ruler").score(sample(task, answers), prediction) == {"score": expected}


def test_part_is_a_maximum_for_qa_only():
    assert {task: score(sample(task, ["a", "b"]), "a") for task in TASKS} == {
        task: 1.0 if task.startswith("qa") else 0.5 for task in TASKS
    }


def test_nulls_are_predictions_without_a_visible_character():
    assert null_count(["", " \n", "\x00\x1f", "0", " a"]) == 3


def test_task_score_has_two_decimals():
    assert task_score([1, 0, 0]) == 33.33
    assert task_score([2 / 3]) == 66.67


def test_average_over_the_13_tasks_and_no_others():
    scores = dict.fromkeys(TASKS, 50.0) | {"vt": 63.0}
    assert length_average(scores) == 51
    with pytest.raises(ConfigError, match="RULER's average is over"):
        length_average({"vt": 50.0})


@pytest.mark.parametrize(
    ("row", "effective", "average", "rising", "falling"),
    [
        ([96.7, 95.8, 96.0, 95.9, 95.9, 94.4], 131072, 95.8, 95.5, 96.1),  # Gemini-1.5-pro
        ([96.5, 95.8, 95.4, 94.8, 88.4, 66.6], 65536, 89.6, 85.5, 93.7),  # Llama3.1 70B
        ([96.2, 96.1, 95.1, 93.0, 78.8, 23.7], 32768, 80.5, 70.6, 90.4),  # Mistral-Large-2407
        ([88.1, 85.5, 84.5, 82.7, 75.5, 68.9], 4096, 80.9, 77.8, 83.9),  # InternLM2.5
        ([82.3, 78.4, 73.7, 69.1, 68.1, 65.0], None, 72.8, 69.9, 75.7),  # LWM
    ],
)
def test_rows_of_the_official_readme(row, effective, average, rising, falling):
    averages = dict(zip(LENGTHS, row, strict=True))
    assert effective_length(averages) == effective
    assert sum(row) / len(row) == pytest.approx(average, abs=0.051)
    assert weighted_averages(averages) == pytest.approx((rising, falling), abs=0.051)


def test_the_threshold_itself_counts_and_is_compared_with_one_decimal():
    assert effective_length({4096: 85.55001, 8192: 85.5}) == 4096


@given(st.floats(0, 100))
def test_weights_of_a_constant_are_without_effect(value):
    assert weighted_averages(dict.fromkeys(LENGTHS, value)) == pytest.approx((value, value))
