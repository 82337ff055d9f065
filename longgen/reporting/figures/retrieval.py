"""Figure `retrieval`: exact match by context length for each retrieval task."""

from __future__ import annotations

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import draw_lines, legend_of_variants, spread
from longgen.reporting.measures import TASK_TITLES, retrieval_by_length, task_order
from longgen.reporting.run import Run


def draw(run: Run) -> Drawing:
    """One panel per task, one line per variant, pooled over depths, with 95 % intervals."""
    data = retrieval_by_length(run)
    tasks = task_order(data)
    figure = style.new_figure(
        "Retrieval by context length: exact match, with 95 % intervals",
        f"{words.run_note(run)} · needle pooled over depths",
        height=2.9,
    )
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    looks = style.variant_styles(run.variants)
    names = list(dict.fromkeys(data["variant"]))
    for axes, task in zip(panels, tasks, strict=True):
        rows = data[data["task"] == task]
        style.length_axis(axes, rows["length"].to_numpy())
        style.mark_length(axes, run.plan.base_length, "base")
        style.mark_length(axes, run.plan.trained_length, "trained")
        for name, shift in zip(names, spread(len(names)), strict=True):
            draw_lines(axes, rows[rows["variant"] == name], "length", "exact", looks[name], shift)
        axes.set_title(TASK_TITLES.get(task, task), pad=style.ABOVE)
        axes.set_ylim(-0.03, 1.03)
        axes.grid(axis="y")
    panels[0].set_ylabel("exact match")
    legend_of_variants(figure, [looks[name] for name in names])
    return Drawing(figure, data)
