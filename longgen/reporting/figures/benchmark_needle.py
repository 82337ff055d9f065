"""Figure `benchmark_needle`: the benchmark's needles by context length and depth, one heat map per model."""

from __future__ import annotations

from longgen.errors import ArtifactError
from longgen.evaluation.needle import TASKS
from longgen.reporting.benchmarks import benchmark_note, in_order, marked, short_labels, with_model
from longgen.reporting.drawing import Drawing
from longgen.reporting.heat_maps import draw_heat_maps, samples_per_cell
from longgen.reporting.run import Run

COLUMNS = [
    *("task", "variant", "method", "budget_of", "length", "depth", "n"),
    *("score", "score_low", "score_high", "stand_in"),
]


def draw(run: Run) -> Drawing:
    """Exact match in the task of Fu et al., else in ours, ``keys``; the trained length is marked if a plan has it."""
    rows = run.frame("benchmark")
    rows = rows[(rows["benchmark"] == "needle") & (rows["metric"] == "exact") & rows["depth"].notna()]
    task = next((task for task in TASKS if task in set(rows["task"])), None)
    if task is None:
        raise ArtifactError(f"{run.missing('benchmark')} (it holds no needles)")
    rows = with_model(rows[rows["task"] == task])
    labels, budgets = short_labels(rows)
    figure = draw_heat_maps(
        marked("Needle in a haystack: exact match", rows),
        benchmark_note(run, "benchmark", f"task {task}", samples_per_cell(rows), budgets),
        {label: rows[rows["model"] == model] for model, label in labels.items()},
        "score",
        {"trained": run.plan.trained_length} if run.has("plan") else {},
    )
    return Drawing(figure, in_order(rows, ["length", "depth"])[COLUMNS])
