"""Figure `perplexity`: how well held-out text is predicted, by position in the context."""

from __future__ import annotations

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import legend_of_variants
from longgen.reporting.positions import COLUMNS, draw_positions, with_perplexity_interval
from longgen.reporting.run import Run


def draw(run: Run) -> Drawing:
    """Perplexity of held-out text per bin of positions, one line per variant, with 95 % intervals as bands."""
    data = with_perplexity_interval(run.frame("perplexity"))[COLUMNS]
    names = list(dict.fromkeys(data["variant"]))
    figure = style.new_figure(
        "Perplexity of held-out text by position in the context",
        f"{words.run_note(run)} · bands: 95 % intervals",
        height=3.0 + 0.06 * len(names),
        width=5.2,
    )
    looks = style.variant_styles(run.variants)
    marks = {"base length": run.plan.base_length, "trained length": run.plan.trained_length}
    draw_positions(figure.subplots(), data, looks, marks)
    legend_of_variants(figure, [looks[name] for name in names])
    return Drawing(figure, data)
