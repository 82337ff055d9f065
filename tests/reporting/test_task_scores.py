"""Method x task: what stands in the table and in its picture, of experiments and of RULER."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh

from longgen.errors import ArtifactError
from longgen.reporting.heat_maps import best_of_columns
from longgen.reporting.report import write_report
from longgen.reporting.run import Run
from longgen.reporting.task_scores import AVERAGE, experiment_scores, readable_scores, ruler_scores
from tests.reporting.fake_reductions import FOUND, SAMPLES
from tests.reporting.fake_run import DEFAULTS, DEPTHS, TASKS, TRAINED, exact, kv_fraction
from tests.reporting.test_figures import draw, panels


def test_every_score_is_that_of_its_task_and_the_average_is_of_who_was_asked_all(reduced_run: Run) -> None:
    rows = experiment_scores(reduced_run)
    assert set(rows["length"]) == {TRAINED}
    table = rows.set_index(["variant", "method", "budget_of", "task"])["score"]
    for number, variant in enumerate(DEFAULTS):
        scores = [np.mean([exact(number, 0, TRAINED, depth) for depth in DEPTHS])]
        scores += [exact(number, place, TRAINED, 0.5) for place in range(1, len(TASKS))]
        for task, score in zip(TASKS, scores, strict=True):
            assert table[variant, "none", "none", task] == pytest.approx(score)
        assert table[variant, "none", "none", AVERAGE] == pytest.approx(np.mean(scores))
    kept = rows[rows["task"] == AVERAGE].set_index("variant")["kv_fraction"]
    assert kept["longgen-sink"] == pytest.approx(kv_fraction("longgen-sink", TRAINED))
    for budget_of, tasks in FOUND.items():
        for task, methods in tasks.items():
            for method, hits in methods.items():
                assert table["full", method, budget_of, task] == pytest.approx(sum(hits) / SAMPLES / len(hits))
        assert ("full", "snapkv", budget_of, AVERAGE) not in table.index or set(tasks) == set(TASKS)
    first = list(dict.fromkeys(zip(rows["variant"], rows["method"], rows["budget_of"], strict=True)))
    assert [name for name, method, _ in first if method == "none"] == list(DEFAULTS)
    assert [method != "none" for _, method, _ in first] == sorted(method != "none" for _, method, _ in first)


def test_the_picture_has_the_numbers_and_the_best_of_a_column_are_bold(reduced_run: Run) -> None:
    drawing = draw("task_scores", reduced_run)
    (axes,) = panels(drawing.figure)
    mesh = next(c for c in axes.collections if isinstance(c, QuadMesh))
    matrix = mesh.get_array()
    tasks = [text.get_text().replace("\n", " ") for text in axes.get_xticklabels()]
    assert tasks == ["needle in a haystack", "multi-key needle", "variable tracking", AVERAGE]
    assert matrix.mask[len(DEFAULTS) :, -1].any(), "a reduction was not asked all tasks"
    best = matrix.max(axis=0)
    for text in axes.texts:
        column, row = text.get_position()
        assert text.get_text() == f"{matrix[row, column]:.2f}"
        assert (text.get_weight() == "bold") == (matrix[row, column] == best[column])
    assert "LongGen (sink), KV" in axes.get_yticklabels()[1].get_text()
    assert "grey: not asked" in drawing.figure.texts[1].get_text()


def test_the_table_is_in_percent_with_the_best_bold(reduced_run: Run, tmp_path: Path) -> None:
    rows = experiment_scores(reduced_run)
    table = readable_scores(rows)
    assert list(table) == [
        "method",
        "KV cache",
        "needle in a haystack",
        "multi-key needle",
        "variable tracking",
        AVERAGE,
    ]
    best = rows[rows["task"] == "needle"]["score"].max()
    assert f"**{100 * best:.1f}**" in set(table["needle in a haystack"])
    assert (table[AVERAGE] == "").any()
    write_report(reduced_run, tmp_path, ["task_scores_table"], forms=["tex"])
    text = (tmp_path / "task_scores_table.tex").read_text("utf-8")
    assert rf"\textbf{{{100 * best:.1f}}}" in text


def test_all_that_reads_as_the_best_is_marked() -> None:
    rows = pd.DataFrame(
        {"variant": ["full", "longgen-sink", "all-sparse"], "method": "none", "budget_of": "none", "kv_fraction": 1.0}
    ).assign(task="needle", score=[0.64444, 0.64407, 0.63], n=90)
    assert list(readable_scores(rows)["needle in a haystack"]) == ["**64.4**", "**64.4**", "63.0"]
    matrix = np.array([[0.6444, 1.0], [0.6407, np.nan], [0.634, 0.5]])
    assert best_of_columns(matrix).tolist() == [[True, True], [True, False], [False, False]]


def test_ruler_has_a_table_per_length_and_a_picture_of_the_longest(benchmark_run: Run, tmp_path: Path) -> None:
    rows = ruler_scores(benchmark_run)
    lengths = sorted(set(rows["length"]))
    assert len(lengths) > 1
    own = rows[(rows["length"] == lengths[0]) & (rows["variant"] == "full") & (rows["method"] == "none")]
    assert list(own["task"]) == ["niah_single_1", "qa_1", AVERAGE]
    assert own["score"].iloc[2] == pytest.approx(own["score"].iloc[:2].mean())
    drawing = draw("ruler_tasks", benchmark_run)
    assert set(drawing.data["length"]) == {lengths[-1]}
    assert "RULER, 2 tasks at 4K tokens" in drawing.figure.get_suptitle()
    assert "stand-in" in drawing.figure.get_suptitle()
    write_report(benchmark_run, tmp_path, ["ruler_tasks_table"])
    text = (tmp_path / "ruler_tasks_table.md").read_text("utf-8")
    assert text.count("## ") == len(lengths)
    assert text.count("Stand-in data") == len(lengths)


def test_nothing_asked_is_said(run: Run, benchmark_run: Run) -> None:
    plan = Run("smoke", run.folder, [result for result in run.results if result.kind == "plan"])
    with pytest.raises(ArtifactError, match="holds nothing at 2048 tokens"):
        experiment_scores(plan)
    needles = [result for result in benchmark_run.results if result.kind != "benchmark"]
    with pytest.raises(ArtifactError):
        ruler_scores(Run("benchmarked", benchmark_run.folder, needles))
