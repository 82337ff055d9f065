"""Figure `perplexity`: how well text is predicted, by position in the context."""

from __future__ import annotations

import math

from longgen.names import HELDOUT
from longgen.reporting import style, words
from longgen.reporting.benchmarks import benchmark_note, marked
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import legend_of_variants
from longgen.reporting.positions import COLUMNS, draw_positions, with_perplexity_interval
from longgen.reporting.run import Run

MOST = 5  # variants in one panel: the bands of more are mud
ACROSS = 4  # panels in a row
TITLE_WIDTH = 0.068  # inches of a character above a panel
_BANDS = "bands: 95 % intervals over documents"


def draw(run: Run) -> Drawing:
    """Perplexity per bin of positions, a line per variant, with 95 % intervals as bands; a panel per source of text.

    More than `MOST` variants have a panel each, with the first, which is full attention, beside them.
    """
    data = with_perplexity_interval(run.frame("perplexity"))[["source", *COLUMNS, "stand_in"]]
    names, sources = list(dict.fromkeys(data["variant"])), list(dict.fromkeys(data["source"]))
    together = len(names) <= MOST
    groups = [names] if together else [[names[0], name] for name in names[1:]]
    panels = [(source, group) for source in sources for group in groups]
    across, lines = min(ACROSS, len(panels)), math.ceil(len(panels) / ACROSS)
    planned, own = run.has("plan"), sources == [HELDOUT]
    count = "" if own else f"{', '.join(map(str, sorted(set(data['n'].astype(int)))))} documents"
    notes = [words.run_note(run) if planned else benchmark_note(run, "perplexity"), count, _BANDS]
    figure = style.new_figure(
        marked(f"Perplexity of {HELDOUT} by position in the context" if own else "Perplexity by position", data),
        words.SEPARATOR.join(filter(None, notes)),
        height=3.0 + 0.06 * len(names) if len(panels) == 1 else 1.0 + (2.2 if together else 1.45) * lines,
        width=5.2 if len(panels) == 1 and own else style.WIDTH,
    )
    grid = figure.subplots(lines, across, squeeze=False, sharex=True, sharey=not together)
    looks = style.variant_styles(dict.fromkeys([*run.variants, *names]))
    ending = " length" if together else ""
    marks = {f"base{ending}": run.plan.base_length, f"trained{ending}": run.plan.trained_length} if planned else {}
    for axes, (source, group) in zip(grid.flat, panels, strict=False):
        draw_positions(axes, data[data["variant"].isin(group) & (data["source"] == source)], looks, marks)
        titles = [*([looks[group[-1]].label] * (not together)), *([source] * (not own))]
        if titles:
            axes.set_title(words.wrap(": ".join(titles), int(style.WIDTH / across / TITLE_WIDTH)), pad=style.ABOVE)
        if not together:
            axes.set(xlabel="position (tokens)" if axes in grid[-1] else "", ylabel="")
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    if not together:
        log = " (log scale)" if grid[0, 0].get_yscale() == "log" else ""
        figure.supylabel(f"perplexity{log}", fontsize="medium")
    legend_of_variants(figure, [looks[name] for name in (names if together else names[:1])])
    return Drawing(figure, data)
