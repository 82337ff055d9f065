"""Figure `retrieval`: exact match, or share of the answer, by context length for each retrieval task."""

from __future__ import annotations

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import beside, describe_task, draw_bands, draw_lines, legend_of_variants, spread
from longgen.reporting.measures import SEVERAL_PARTS, pool_shares, retrieval_by_length, task_order
from longgen.reporting.run import Run

MOST = 3  # panels in a row


def draw(run: Run) -> Drawing:
    """One panel per task, one line per variant, pooled over depths, with 95 % intervals."""
    data, by = retrieval_by_length(run), ["variant", "task", "length"]
    tasks = task_order(data)
    shares = pool_shares(run.frame("retrieval"), by)
    if len(shares):
        data = data.merge(shares.drop(columns="n"), how="left", on=by)
    lines = -(-len(tasks) // MOST)
    names = list(dict.fromkeys(data["variant"]))
    shifts = spread(len(names))
    score = "" if len(shares) else ": exact match"
    figure = style.new_figure(
        f"Retrieval by context length{score}, with 95 % intervals",
        words.SEPARATOR.join([words.run_note(run), "needle pooled over depths", *beside(shifts)]),
        height=0.75 + 2.15 * lines,
    )
    panels = figure.subplots(lines, min(MOST, len(tasks)), sharey=True, squeeze=False)
    looks = style.variant_styles(run.variants)
    for place, (axes, task) in enumerate(zip(panels.flat, tasks, strict=False)):
        rows, several = data[data["task"] == task], task in SEVERAL_PARTS
        style.length_axis(axes, rows["length"].to_numpy())
        style.mark_length(axes, run.plan.base_length, "base")
        style.mark_length(axes, run.plan.trained_length, "trained")
        draw_bands(axes, rows["length"], shifts)
        for name, shift in zip(names, shifts, strict=True):
            column = "share" if several else "exact"
            draw_lines(axes, rows[rows["variant"] == name], "length", column, looks[name], shift)
        describe_task(axes, task, first=place % MOST == 0)
    for axes in panels.flat[len(tasks) :]:
        axes.remove()
    legend_of_variants(figure, [looks[name] for name in names])
    return Drawing(figure, data)
