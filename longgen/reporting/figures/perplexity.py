"""Figure `perplexity`: how well held-out text is predicted, by position in the context."""

from __future__ import annotations

import math

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import legend_of_variants
from longgen.reporting.positions import COLUMNS, draw_positions, with_perplexity_interval
from longgen.reporting.run import Run

MOST = 5  # variants in one panel: the bands of more are mud
ACROSS = 4  # panels in a row


def draw(run: Run) -> Drawing:
    """Perplexity of held-out text per bin of positions, a line per variant, with 95 % intervals as bands.

    More than `MOST` variants have a panel each, with the first, which is full attention, beside them.
    """
    data = with_perplexity_interval(run.frame("perplexity"))[COLUMNS]
    names = list(dict.fromkeys(data["variant"]))
    groups = [names] if len(names) <= MOST else [[names[0], name] for name in names[1:]]
    across, lines = min(ACROSS, len(groups)), math.ceil(len(groups) / ACROSS)
    figure = style.new_figure(
        "Perplexity of held-out text by position in the context",
        f"{words.run_note(run)} · bands: 95 % intervals over documents",
        height=3.0 + 0.06 * len(names) if len(groups) == 1 else 1.0 + 1.45 * lines,
        width=5.2 if len(groups) == 1 else style.WIDTH,
    )
    grid = figure.subplots(lines, across, squeeze=False, sharex=True, sharey=True)
    looks = style.variant_styles(run.variants)
    ending = " length" if len(groups) == 1 else ""
    marks = {f"base{ending}": run.plan.base_length, f"trained{ending}": run.plan.trained_length}
    for axes, group in zip(grid.flat, groups, strict=False):
        draw_positions(axes, data[data["variant"].isin(group)], looks, marks)
        if len(groups) > 1:
            axes.set_title(looks[group[-1]].label, pad=style.ABOVE)
            axes.set(xlabel="position (tokens)" if axes in grid[-1] else "", ylabel="")
    for axes in grid.flat[len(groups) :]:
        axes.remove()
    if len(groups) > 1:
        log = " (log scale)" if grid[0, 0].get_yscale() == "log" else ""
        figure.supylabel(f"perplexity{log}", fontsize="medium")
    legend_of_variants(figure, [looks[name] for name in (groups[0] if len(groups) == 1 else names[:1])])
    return Drawing(figure, data)
