"""Figure `perplexity`: how well text is predicted by position, and by how much that differs from full attention's."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from longgen.names import HELDOUT
from longgen.reporting import style, words
from longgen.reporting.benchmarks import benchmark_note, marked
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import legend_of_variants
from longgen.reporting.positions import COLUMNS, draw_positions, position_axis, with_perplexity_interval
from longgen.reporting.run import Run

OVER_FULL = "perplexity_over_full"
_WHERE = ["source", "position_start", "position_end"]


def with_difference(data: pd.DataFrame) -> pd.DataFrame:
    """``data`` with perplexity over that of full attention on the same positions of the same documents, minus 1.

    Documents differ far more than variants do: this difference is paired, as the intervals of either are not. Missing
    where full attention was not asked.
    """
    full = data[data["variant"] == "full"].set_index(_WHERE)["nll"]
    keys = pd.MultiIndex.from_frame(data[_WHERE])
    return data.assign(**{OVER_FULL: np.expm1(data["nll"].to_numpy() - full.reindex(keys).to_numpy())})


def draw(run: Run) -> Drawing:
    """Left perplexity per bin of positions, right by how much it differs from full attention's: a line per variant.

    Every source of text has a row. One variant's interval over documents is a band: those of all would be mud, and they
    are much alike.
    """
    data = with_difference(with_perplexity_interval(run.frame("perplexity"))[["source", *COLUMNS, "stand_in"]])
    names, sources = list(dict.fromkeys(data["variant"])), list(dict.fromkeys(data["source"]))
    compared = bool(data.loc[data["variant"] != "full", OVER_FULL].notna().any())
    planned, own = run.has("plan"), sources == [HELDOUT]
    note = [words.run_note(run) if planned else benchmark_note(run, "perplexity")]
    if not own:
        note.append(f"{', '.join(map(str, sorted(set(data['n'].astype(int)))))} documents")
    note.append(f"band: 95 % interval over documents, {words.variant_label(names[0])}")
    if compared:
        note.append("right: on the same documents, so without their spread; its interval is not in the results")
    figure = style.new_figure(
        marked(f"Perplexity of {HELDOUT} by position in the context" if own else "Perplexity by position", data),
        words.SEPARATOR.join(note),
        height=1.0 + 2.5 * len(sources),
    )
    looks = style.variant_styles(dict.fromkeys([*run.variants, *names]))
    marks = {"base": run.plan.base_length, "trained": run.plan.trained_length} if planned else {}
    for row, source in zip(figure.subplots(len(sources), 1 + compared, squeeze=False), sources, strict=True):
        rows = data[data["source"] == source]
        draw_positions(row[0], rows, looks, marks, bands=names[:1])
        row[0].set_title("perplexity" if own else source, pad=style.ABOVE)
        for axes in row[1:]:
            _draw_difference(axes, rows, looks)
            position_axis(axes, rows, marks)
    legend_of_variants(figure, [looks[name] for name in names])
    return Drawing(figure, data)


def _draw_difference(axes: Axes, data: pd.DataFrame, looks: dict[str, style.VariantStyle]) -> None:
    for name in dict.fromkeys(data["variant"]):
        rows, look = data[data["variant"] == name].sort_values("position_start"), looks[name]
        centre = (rows["position_start"] + rows["position_end"]) / 2
        line = {"marker": "", "linewidth": 0.9} if name == "full" else {"marker": look.marker}
        axes.plot(centre, 100 * rows[OVER_FULL], color=look.color, markeredgecolor="white", mew=0.4, **line)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g} %" if value else "0"))
    axes.set_title("against full attention", pad=style.ABOVE)
    axes.set_ylabel("difference of perplexity")
