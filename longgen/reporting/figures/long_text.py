"""Figure `long_text`: how well long text is predicted, by position in the context."""

from __future__ import annotations

from longgen.reporting import style, words
from longgen.reporting.benchmarks import benchmark_note, marked
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import legend_of_variants
from longgen.reporting.positions import COLUMNS, draw_positions, with_perplexity_interval
from longgen.reporting.run import Run

TITLE_WIDTH = 0.068  # inches of a character above a panel


def draw(run: Run) -> Drawing:
    """A panel per source of text, a line per variant, with 95 % intervals as bands."""
    data = with_perplexity_interval(run.frame("long-text"))[["source", *COLUMNS, "stand_in"]]
    names, sources = list(dict.fromkeys(data["variant"])), list(dict.fromkeys(data["source"]))
    documents = sorted(set(data["n"].astype(int)))
    figure = style.new_figure(
        marked("Perplexity by position", data),
        benchmark_note(run, "long-text", f"{', '.join(map(str, documents))} documents", "bands: 95 % intervals"),
        height=3.1 + 0.06 * len(names),
    )
    panels = figure.subplots(1, len(sources), squeeze=False)[0]
    looks = style.variant_styles(dict.fromkeys([*run.variants, *names]))
    marks = {"base length": run.plan.base_length, "trained length": run.plan.trained_length} if run.has("plan") else {}
    for axes, source in zip(panels, sources, strict=True):
        draw_positions(axes, data[data["source"] == source], looks, marks)
        title = words.wrap(source, int(style.WIDTH / len(sources) / TITLE_WIDTH))
        axes.set_title(title, pad=style.ABOVE)
    legend_of_variants(figure, [looks[name] for name in names])
    return Drawing(figure, data)
