"""Figure `ruler_tasks`: RULER's table, method x task with their average, at the longest length."""

from __future__ import annotations

from longgen.reporting import words
from longgen.reporting.benchmarks import benchmark_note, with_stand_in_note
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import Run
from longgen.reporting.task_scores import AVERAGE, draw_scores, ruler_scores


def draw(run: Run) -> Drawing:
    """A heat map with numbers: a row per model, the best of each task bold."""
    rows = ruler_scores(run)
    rows = rows[rows["length"] == rows["length"].max()].reset_index(drop=True)
    tasks = rows.loc[rows["task"] != AVERAGE, "task"].nunique()
    title = with_stand_in_note(f"RULER, {tasks} tasks at {words.format_length(rows['length'].iloc[0])} tokens", rows)
    note = benchmark_note(run, "benchmark", "bold: best of a column, ties as written")
    return Drawing(draw_scores(title, note, rows), rows)
