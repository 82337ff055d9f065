"""Figure `packing`: what packing does to the lengths of documents and to the mixture of domains, before and after."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.packing_table import ARROW, packing_rows, threshold_of
from longgen.reporting.run import Run

MOST = 10  # domains that are drawn; beyond it the smallest are one
ACROSS = 3  # panels of domains in a row
KEYS = ["panel", "domain", "length_low"]
TOKENS = ["tokens_before", "tokens_after"]
SHARES = ["share_before", "share_after"]
COLORS = dict(zip(SHARES, ("#b5b5b5", style.LOCAL), strict=True))
LABELS = dict(zip(SHARES, ("read, without duplicates", "packed"), strict=True))
LENGTH = "length of document (tokens)"
_LONGEST = 24  # characters of a domain's name
_ABOVE = style.ABOVE + 2.5  # points below a title: room for its descenders above the small print
_BAR = 0.42  # a bar's part of the room for two
_DASHED: dict[str, Any] = {"color": style.MUTED, "linewidth": 0.8, "linestyle": (0, (4, 3))}


def drawn_rows(run: Run) -> pd.DataFrame:
    """What the figure shows, "before" without duplicates.

    Panel ``mixture``: tokens by domain, and their shares of all. Panels ``lengths``: tokens by domain and length
    bucket, and their shares of the domain's; without a domain, those of all. A single domain has the last alone.
    """
    rows = packing_rows(run).dropna(subset="length_low").rename(columns={"tokens_used": "tokens_after"})
    sizes = rows.groupby("domain")["tokens_before"].sum().sort_values(ascending=False, kind="stable")
    order = list(sizes.index) if len(sizes) <= MOST else [*sizes.index[: MOST - 1], f"{len(sizes) - MOST + 1} others"]
    rows = rows.assign(panel="lengths", domain=rows["domain"].where(rows["domain"].isin(order), order[-1]))
    parts = [rows]
    if len(order) > 1:
        parts = [rows.assign(panel="mixture", length_low=np.nan), rows.assign(domain=None), rows]
    data = pd.concat([part.groupby(KEYS, dropna=False)[TOKENS].sum().reset_index() for part in parts])
    data["rank"] = data["domain"].map({domain: rank for rank, domain in enumerate(order)}).fillna(-1)
    data = data.sort_values(["panel", "rank", "length_low"], key=lambda c: c == "lengths" if c.name == "panel" else c)
    whole = data["domain"].where(data["panel"] == "lengths", "")
    for share, tokens in zip(SHARES, TOKENS, strict=True):
        data[share] = data[tokens] / data.groupby(["panel", whole], dropna=False)[tokens].transform("sum")
    return data[[*KEYS, *TOKENS, *SHARES]].reset_index(drop=True)


def draw(run: Run) -> Drawing:
    """The mixture beside the lengths of all documents, and below the lengths by domain: bars before and after."""
    data, edges, threshold = drawn_rows(run), _edges(run), threshold_of(run)
    lengths = data[data["panel"] == "lengths"]
    panels = [rows for _, rows in lengths.groupby("domain", sort=False, dropna=False)]
    domains = len(panels) - 1
    lines = math.ceil(domains / ACROSS)
    heights = [1.2 + 0.17 * domains, 1.4 * lines]  # inches
    settings = run.settings("packing")
    sizes = ", ".join(words.format_length(length) for length in settings["lengths"])
    note = (f"run {run.name}", f"method {settings['method']}", f"rows of {sizes} tokens", run.device("packing"))
    title = "Packing: lengths of documents and mixture of domains"
    figure = style.new_figure(title, words.SEPARATOR.join(note), height=(sum(heights) if domains else 2) + 0.8)
    bars = [Patch(color=COLORS[share], label=LABELS[share]) for share in SHARES]
    dashes = Line2D([], [], label=f"long: {words.format_length(threshold)} tokens or more", **_DASHED)
    style.legend_below(figure, [*bars, dashes])
    if not domains:
        _draw_lengths(figure.subplots(), panels[0], edges, threshold, with_labels=True)
        return Drawing(figure, data)
    top, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    left, right = top.subplots(1, 2)
    _draw_mixture(left, data[data["panel"] == "mixture"])
    _draw_lengths(right, panels[0], edges, threshold, with_labels=True)
    grid = list(below.subplots(lines, ACROSS, squeeze=False, sharex=True, sharey=True).flat)
    for axes, rows in zip(grid, panels[1:], strict=False):
        _draw_lengths(axes, rows, edges, threshold)
        axes.tick_params(labelbottom=True)
    for axes in grid[domains:]:
        axes.set_axis_off()
    below.supxlabel(LENGTH, fontsize="medium")
    below.supylabel("share of the domain's tokens (%)", fontsize="medium")
    return Drawing(figure, data)


def _edges(run: Run) -> list[float]:
    """Lower ends of the length buckets, those without a document between others included."""
    rows = packing_rows(run).dropna(subset="length_low")
    edges = sorted({*rows["length_low"], *rows["length_high"].dropna()})
    return edges if rows["length_high"].isna().any() else edges[:-1]


def _draw_mixture(axes: Axes, rows: pd.DataFrame) -> None:
    places = np.arange(len(rows))
    for share, shift in zip(SHARES, (-_BAR / 2, _BAR / 2), strict=True):
        axes.barh(places + shift, 100 * rows[share], _BAR, color=COLORS[share])
    axes.set_yticks(places, [_label(domain) for domain in rows["domain"]])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.grid(axis="x")
    axes.set_title("mixture", pad=_ABOVE)
    axes.set_xlabel("share of all tokens (%)")


def _draw_lengths(
    axes: Axes, rows: pd.DataFrame, edges: list[float], threshold: int, with_labels: bool = False
) -> None:
    """Bars by length bucket of a domain or of all, and above them what is long before and after.

    Args:
        axes: to draw on.
        rows: of one panel.
        edges: lower ends of all buckets, those that the panel lacks included.
        threshold: tokens from which on a document is long.
        with_labels: whether the axes have labels of their own.
    """
    places = np.searchsorted(edges, rows["length_low"])
    for share, shift in zip(SHARES, (-_BAR / 2, _BAR / 2), strict=True):
        axes.bar(places + shift, 100 * rows[share], _BAR, color=COLORS[share])
    axes.axvline(np.searchsorted(edges, threshold) - 0.5, **_DASHED)
    # every other edge, and the threshold among them: all of them leave no room for the words
    ticks = [place for place, edge in enumerate(edges) if edge and round(math.log2(edge / threshold)) % 2 == 0]
    axes.set_xticks([place - 0.5 for place in ticks], [words.format_length(edges[place]) for place in ticks])
    axes.set_xlim(-0.6, len(edges) - 0.4)
    axes.grid(axis="y")
    domain = rows["domain"].iloc[0]
    axes.set_title("all domains" if pd.isna(domain) else _label(domain), pad=_ABOVE)
    long = [100 * rows.loc[rows["length_low"] >= threshold, share].sum() for share in SHARES]
    style.write_above(axes, axes.get_xlim()[1], f"long: {long[0]:.0f} {ARROW} {long[1]:.0f} %", "right")
    if with_labels:
        axes.set_xlabel(LENGTH)
        axes.set_ylabel("share of tokens (%)")


def _label(domain: str) -> str:
    """A domain's name as drawn: not longer than there is room, and never read as a formula."""
    name = domain if len(domain) <= _LONGEST else f"{domain[: _LONGEST - 1]}\u2026"
    return name.replace("$", r"\$")
