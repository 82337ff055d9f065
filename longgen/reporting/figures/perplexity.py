"""Figure `perplexity`: how well text is predicted by position, and by how much that differs from full attention's."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from longgen.names import HELDOUT
from longgen.reporting import style, words
from longgen.reporting.benchmarks import benchmark_note, with_stand_in_note
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import legend_of_variants
from longgen.reporting.paired import (
    DIFFERENCE,
    NOT_STORED,
    ONE_DOCUMENT,
    OTHER_DOCUMENTS,
    OVER_FULL,
    UNPAIRED,
    with_difference,
)
from longgen.reporting.positions import COLUMNS, draw_positions, position_axis, with_perplexity_interval
from longgen.reporting.run import Run

# What the small print says of differences: of those with an interval, and of those without one, by why.
_PAIRED_NOTE = "right: on the same documents; band: 95 % interval of the difference, paired by document"
_WITHOUT = {
    NOT_STORED: "right: on the same documents, so without their spread; its interval is not in the results",
    OTHER_DOCUMENTS: "right: not the documents that full attention read, so not paired, and without an interval",
    ONE_DOCUMENT: "right: of one document, so without an interval",
}


def draw(run: Run) -> Drawing:
    """Left perplexity per bin of positions, right by how much it differs from full attention's: a line per variant.

    Every source of text has a row. On the left one variant's interval over documents is a band: those of all would be
    mud, and they are much alike. On the right those of all paired differences are, which are far narrower.
    """
    rows = with_difference(run, with_perplexity_interval(run.frame("perplexity")))
    data = rows[["source", *COLUMNS, "stand_in", *DIFFERENCE]]
    names, sources = list(dict.fromkeys(data["variant"])), list(dict.fromkeys(data["source"]))
    has_difference = bool(data.loc[data["variant"] != "full", OVER_FULL].notna().any())
    has_plan, own = run.has("plan"), sources == [HELDOUT]
    note = [words.run_note(run) if has_plan else benchmark_note(run, "perplexity")]
    if not own:
        note.append(f"{', '.join(map(str, sorted(set(data['n'].astype(int)))))} documents")
    note.append(f"band: 95 % interval over documents, {words.variant_label(names[0])}")
    if has_difference:
        note += _about_differences(rows)
    figure = style.new_figure(
        with_stand_in_note(
            f"Perplexity of {HELDOUT} by position in the context" if own else "Perplexity by position", data
        ),
        words.SEPARATOR.join(note),
        height=1.0 + 2.5 * len(sources),
    )
    looks = style.variant_styles(dict.fromkeys([*run.variants, *names]))
    marks = run.plan.marked_lengths if has_plan else {}
    for row, source in zip(figure.subplots(len(sources), 1 + has_difference, squeeze=False), sources, strict=True):
        rows = data[data["source"] == source]
        draw_positions(row[0], rows, looks, marks, bands=names[:1])
        row[0].set_title("perplexity" if own else source, pad=style.ABOVE)
        for axes in row[1:]:
            _draw_difference(axes, rows, looks)
            position_axis(axes, rows, marks)
    legend_of_variants(figure, [looks[name] for name in names])
    return Drawing(figure, data)


def _about_differences(rows: pd.DataFrame) -> list[str]:
    """The small print of differences; where not all are alike, it says which have no interval, or how many."""
    interval_note = [_PAIRED_NOTE] * bool(rows[f"{OVER_FULL}_low"].notna().any())
    variants_by_note = {
        text: list(dict.fromkeys(rows.loc[rows[UNPAIRED] == why, "variant"])) for why, text in _WITHOUT.items()
    }
    without = {text: names for text, names in variants_by_note.items() if names}
    if len(interval_note) + len(without) == 1:
        return [*interval_note, *without]
    count = len(set(rows["variant"]) - {"full"})
    which = [
        words.variant_label(names[0]) if len(names) == 1 else f"{len(names)} of {count}" for names in without.values()
    ]
    return [*interval_note, *(f"{text} ({each})" for text, each in zip(without, which, strict=True))]


def _draw_difference(axes: Axes, data: pd.DataFrame, looks: dict[str, style.VariantStyle]) -> None:
    for name in dict.fromkeys(data["variant"]):
        rows, look = data[data["variant"] == name].sort_values("position_start"), looks[name]
        centre = (rows["position_start"] + rows["position_end"]) / 2
        low, high = (100 * rows[f"{OVER_FULL}_{end}"] for end in ("low", "high"))
        if low.notna().any():
            axes.fill_between(centre, low, high, color=look.color, alpha=0.15, linewidth=0)
        line = {"marker": "", "linewidth": 0.9} if name == "full" else {"marker": look.marker}
        axes.plot(centre, 100 * rows[OVER_FULL], color=look.color, markeredgecolor="white", mew=0.4, **line)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g} %" if value else "0"))
    axes.set_title("against full attention", pad=style.ABOVE)
    axes.set_ylabel("difference of perplexity")
