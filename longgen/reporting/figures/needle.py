"""Figure `needle`: exact match by context length and depth of the needle, one heat map per model."""

from __future__ import annotations

from longgen.errors import ArtifactError
from longgen.names import NONE
from longgen.reporting import words
from longgen.reporting.benchmarks import (
    MODEL,
    benchmark_note,
    is_stand_in,
    short_labels,
    with_model,
    with_stand_in_note,
)
from longgen.reporting.drawing import Drawing
from longgen.reporting.heat_maps import draw_heat_maps, samples_per_cell
from longgen.reporting.measures import pool
from longgen.reporting.run import Run

# (benchmark, task) of needles, the first that was asked is drawn: those of a model of bytes, of Fu et al., or ours
NEEDLES = (("recall", "needle"), ("needle", "fu"), ("needle", "keys"))
COLUMNS = [*MODEL, "length", "depth", "n", "exact", "exact_low", "exact_high", "stand_in"]


def draw(run: Run) -> Drawing:
    """Heat maps of the variants, and of reduced caches where figure `needle_reductions` has none; base and trained
    length are with_stand_in_note where there is a plan.
    """
    rows = run.frame("benchmark")
    rows = rows[(rows["metric"] == "exact") & rows["depth"].notna()]
    benchmark_tasks = set(zip(rows["benchmark"], rows["task"], strict=True))
    needle = next((each for each in NEEDLES if each in benchmark_tasks), None)
    if needle is None:
        raise ArtifactError(f"{run.missing('benchmark')} (it holds no needle at several depths)")
    rows = rows[(rows["benchmark"] == needle[0]) & (rows["task"] == needle[1])].rename(columns={"score": "exact"})
    if run.has("kv-reduction"):
        rows = rows[rows["method"] == NONE]
    rows = with_model(rows, run.variants)
    labels, budgets = short_labels(rows)
    data = pool(rows.astype({"model": str}), ["model", *MODEL, "stand_in", "length", "depth"])
    has_plan = run.has("plan")
    task = f"task {needle[1]}" if needle[0] == "needle" else ""
    notes = [
        words.run_note(run) if has_plan else benchmark_note(run, "benchmark"),
        task,
        samples_per_cell(data),
        budgets,
    ]
    axes = "" if is_stand_in(rows) else " by context length and depth of the needle"  # there is room for one of both
    figure = draw_heat_maps(
        with_stand_in_note(f"Needle in a haystack: exact match{axes}", rows),
        words.SEPARATOR.join(filter(None, notes)),
        {label: data[data["model"] == model] for model, label in labels.items()},
        "exact",
        run.plan.marked_lengths if has_plan else {},
    )
    return Drawing(figure, data[COLUMNS])
