"""Figure `perplexity`: how well held-out text is predicted by position, and by how much that differs from full's."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import legend_of_variants
from longgen.reporting.positions import COLUMNS, draw_positions, position_axis, with_perplexity_interval
from longgen.reporting.run import Run

OVER_FULL = "perplexity_over_full"


def with_difference(data: pd.DataFrame) -> pd.DataFrame:
    """``data`` with perplexity over that of full attention on the same positions of the same documents, minus 1.

    Documents differ far more than variants do: this difference is paired, as the intervals of either are not. Missing
    where full attention was not asked.
    """
    full = data[data["variant"] == "full"].set_index(["position_start", "position_end"])["nll"]
    keys = pd.MultiIndex.from_frame(data[["position_start", "position_end"]])
    return data.assign(**{OVER_FULL: np.expm1(data["nll"].to_numpy() - full.reindex(keys).to_numpy())})


def draw(run: Run) -> Drawing:
    """Left perplexity per bin of positions, right by how much it differs from full attention's: a line per variant.

    One variant's interval over documents is a band: those of all would be mud, and they are much alike.
    """
    data = with_difference(with_perplexity_interval(run.frame("perplexity"))[COLUMNS])
    names = list(dict.fromkeys(data["variant"]))
    compared = bool(data.loc[data["variant"] != "full", OVER_FULL].notna().any())
    note = [words.run_note(run), f"band: 95 % interval over documents, {words.variant_label(names[0])}"]
    if compared:
        note.append("right: on the same documents, so without their spread; its interval is not in the results")
    figure = style.new_figure(
        "Perplexity of held-out text by position in the context", words.SEPARATOR.join(note), height=3.5
    )
    left, *others = figure.subplots(1, 1 + compared, squeeze=False)[0]
    looks = style.variant_styles(run.variants)
    marks = {"base": run.plan.base_length, "trained": run.plan.trained_length}
    draw_positions(left, data, looks, marks, bands=names[:1])
    left.set_title("perplexity", pad=style.ABOVE)
    for axes in others:
        for name in names:
            rows, look = data[data["variant"] == name].sort_values("position_start"), looks[name]
            centre = (rows["position_start"] + rows["position_end"]) / 2
            line = {"marker": "", "linewidth": 0.9} if name == "full" else {"marker": look.marker}
            axes.plot(centre, 100 * rows[OVER_FULL], color=look.color, markeredgecolor="white", mew=0.4, **line)
        position_axis(axes, data, marks)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g} %" if value else "0"))
        axes.set_title("against full attention", pad=style.ABOVE)
        axes.set_ylabel("difference of perplexity")
    legend_of_variants(figure, [looks[name] for name in names])
    return Drawing(figure, data)
