"""Figure `perplexity`: how well held-out text is predicted, by position in the context."""

from __future__ import annotations

import numpy as np

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import legend_of_variants
from longgen.reporting.run import Run

COLUMNS = [
    *("variant", "position_start", "position_end", "n", "nll", "nll_low", "nll_high"),
    *("perplexity", "perplexity_low", "perplexity_high"),
]


def draw(run: Run) -> Drawing:
    """Perplexity of held-out text per bin of positions, one line per variant, with 95 % intervals as bands."""
    data = run.frame("perplexity")
    data = data.assign(perplexity_low=np.exp(data["nll_low"]), perplexity_high=np.exp(data["nll_high"]))[COLUMNS]
    names = list(dict.fromkeys(data["variant"]))
    figure = style.new_figure(
        "Perplexity of held-out text by position in the context",
        f"{words.run_note(run)} · bands: 95 % intervals",
        height=3.0 + 0.06 * len(names),
        width=5.2,
    )
    axes = figure.subplots()
    looks = style.variant_styles(run.variants)
    for name in names:
        rows, look = data[data["variant"] == name].sort_values("position_start"), looks[name]
        centre = (rows["position_start"] + rows["position_end"]) / 2
        axes.fill_between(
            centre, rows["perplexity_low"], rows["perplexity_high"], color=look.color, alpha=0.15, linewidth=0
        )
        axes.plot(
            centre,
            rows["perplexity"],
            color=look.color,
            marker=look.marker,
            label=look.label,
            markeredgecolor="white",
            mew=0.4,
        )
    end = float(data["position_end"].max())
    for length, text in ((run.plan.base_length, "base length"), (run.plan.trained_length, "trained length")):
        if length < end:
            style.mark_length(axes, length, text)
    axes.set_xlim(0, end * 1.01)
    axes.set_xticks(*_ticks(end))
    axes.set_xlabel("position in the context (tokens)")
    # a variant that breaks down must not flatten the others
    wide = data["perplexity"].max() > 4 * data["perplexity"].min()
    if wide:
        axes.set_yscale("log")
    axes.set_ylabel("perplexity (log scale)" if wide else "perplexity")
    axes.grid(axis="y")
    legend_of_variants(figure, [looks[name] for name in names])
    return Drawing(figure, data)


def _ticks(end: float) -> tuple[list[float], list[str]]:
    """Quarters of the next power of two, up to the end."""
    step = 2 ** np.ceil(np.log2(end)) / 4
    ticks = [float(value) for value in np.arange(0, end + 1, step)]
    return ticks, [words.format_length(tick) for tick in ticks]
