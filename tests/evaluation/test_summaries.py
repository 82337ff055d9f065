"""The benchmarks' own averages, from scores of samples to records."""

import numpy as np
import pytest

from longgen.evaluation.benchmarks import benchmark
from longgen.evaluation.ruler import TASKS
from longgen.evaluation.runs.scoring import CellScores, summary_records
from longgen.evaluation.summaries import Cell, summary_intervals


def by_name(records) -> dict:
    return {(record["summary"], record["length"]): record for record in records}


def summarised(name: str, cells: dict[Cell, list[float]], **changes) -> dict:
    return by_name(summary_records(benchmark(name), CellScores(cells, **changes)))


def test_ruler_is_averaged_over_its_13_tasks_and_weighted_by_length():
    # 4K: 12 tasks right, one at 0.25; 8K: all at half
    cells = {Cell(task, 4096, None, "score"): [1.0, 1.0] for task in TASKS}
    cells[Cell(TASKS[0], 4096, None, "score")] = [0.5, 0.0]
    cells |= {Cell(task, 8192, None, "score"): [1.0, 0.0] for task in TASKS}
    found = summarised("ruler", cells)
    short = 100 * (12 + 0.25) / 13
    assert found["average", 4096]["value"] == pytest.approx(short)
    assert found["average", 8192]["value"] == pytest.approx(50)
    assert found["weighted-increasing", None]["value"] == pytest.approx((short + 2 * 50) / 3)
    assert found["weighted-decreasing", None]["value"] == pytest.approx((2 * short + 50) / 3)
    assert found["effective-length", None]["value"] == 4096
    assert (found["effective-length", None]["unit"], found["effective-length", None]["value_low"]) == ("tokens", None)
    assert found["average", 4096]["n"] == 26
    assert found["weighted-increasing", None]["n"] == 52


def test_the_average_of_fewer_tasks_is_not_rulers():
    cells = {Cell(task, 4096, None, "score"): [1.0] for task in TASKS[:-1]}
    assert summarised("ruler", cells) == {}
    low = {Cell(task, 4096, None, "score"): [0.5] for task in TASKS}
    assert summarised("ruler", low)["effective-length", None]["value"] is None


def test_babilong_is_averaged_over_its_first_five_tasks():
    cells = {Cell(f"qa{number}", 4096, None, "score"): [number / 10] for number in range(1, 7)}
    cells |= {Cell(f"qa{number}", 8192, None, "score"): [1.0] for number in range(1, 5)}
    found = summarised("babilong", cells)
    assert found.keys() == {("average", 4096)}
    assert found["average", 4096]["value"] == pytest.approx(30)
    assert found["average", 4096]["n"] == 5


def test_longbench_has_two_languages_and_the_version_with_equal_lengths():
    cells = {
        Cell("qasper", None, None, "score"): [0.2, 0.4],
        Cell("multifieldqa_en", None, None, "score"): [0.9],
        Cell("narrativeqa", None, None, "score"): [0.6],
        Cell("lcc_e", None, None, "score"): [0.5],
        Cell("lcc_e", None, None, "score, 0-4k"): [0.5],
        Cell("repobench-p_e", None, None, "score"): [0.7],
    }
    found = summarised("longbench", cells)
    assert found.keys() == {("en: single-document QA", None), ("e: code completion", None)}
    assert found["en: single-document QA", None]["value"] == pytest.approx(60)
    assert found["en: single-document QA", None]["n"] == 4
    assert found["e: code completion", None]["value"] == pytest.approx(60)
    assert found["e: code completion", None]["n"] == 2


def test_the_needle_is_averaged_over_depths_and_over_the_grid():
    cells = {
        Cell("fu", 4096, 0.0, "exact"): [1.0, 1.0],
        Cell("fu", 4096, 1.0, "exact"): [0.0, 1.0],
        Cell("fu", 8192, 0.0, "exact"): [0.0],
        Cell("keys", 4096, 0.0, "exact"): [1.0],
    }
    found = summarised("needle", cells)
    values = {key: record["value"] for key, record in found.items()}
    assert values == {
        ("fu exact", 4096): 75,
        ("fu exact", 8192): 0,
        ("fu exact", None): pytest.approx(50),
        ("keys exact", 4096): 100,
        ("keys exact", None): 100,
    }
    assert found["fu exact", None]["n"] == 5


def test_intervals_cover_the_doubt_of_samples_and_kv_is_averaged():
    rng = np.random.default_rng(0)
    cell = Cell("fu", 4096, 0.0, "exact")
    scores = (rng.random(400) < 0.7).astype(float).tolist()
    cells = {cell: scores}
    found = summarised("needle", cells, kv_fractions={cell: [0.3, 0.5]}, stand_ins={cell})["fu exact", 4096]
    half = 100 * 1.96 * np.sqrt(np.var(scores) / 400)
    assert found["value"] - found["value_low"] == pytest.approx(half, rel=0.2)
    assert found["value_high"] - found["value"] == pytest.approx(half, rel=0.2)
    assert (found["kv_fraction"], found["stand_in"]) == (0.4, True)
    certain = summary_intervals({cell: [1.0] * 5}, benchmark("needle").summarise)
    for each in certain:
        assert each.high == each.summary.value == 100
        assert 50 < each.low < 80, "five right answers leave doubt"
    assert [(each.low, each.high) for each in summary_intervals({cell: [0.4] * 5}, benchmark("needle").summarise)] == [
        (pytest.approx(40), pytest.approx(40))
    ] * 2
