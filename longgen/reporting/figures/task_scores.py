"""Figure `task_scores`: method x task with their average, at the trained length."""

from __future__ import annotations

from longgen.reporting import words
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import Run
from longgen.reporting.task_scores import draw_scores, experiment_scores


def draw(run: Run) -> Drawing:
    """A heat map with numbers: a row per variant and KV reduction, the best of each task bold."""
    rows = experiment_scores(run)
    note = [
        words.run_note(run),
        "exact match or share of the answer, pooled over depths",
        "bold: best of a column, ties as written",
    ]
    length = words.format_length(run.plan.trained_length)
    figure = draw_scores(f"Method by task at {length} tokens", words.SEPARATOR.join(note), rows)
    return Drawing(figure, rows)
