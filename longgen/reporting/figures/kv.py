"""Figure `kv`: size of the KV cache by context length, measured and planned."""

from __future__ import annotations

import pandas as pd
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import beside, draw_bands, legend_of_variants, spread_apart
from longgen.reporting.run import Run


def draw(run: Run) -> Drawing:
    """Bytes of the cache at batch 1: markers are measured from the cache's storage, lines are planned."""
    data = run.frame("memory")[["variant", "length", "kv_bytes", "kv_bytes_planned", "kv_fraction"]]
    data = data.sort_values("length", kind="stable").rename(columns={"kv_bytes": "kv_bytes_measured"})
    names = [name for name in run.variants if name in set(data["variant"])]
    data = pd.concat([data[data["variant"] == name] for name in names], ignore_index=True)
    width = 5.2
    # variants with as many full layers have the same bytes
    shifts = spread_apart(len(names), data["length"], width - 1)
    figure = style.new_figure(
        "KV cache by context length: measured and planned",
        words.SEPARATOR.join([words.run_note(run, "memory"), *beside(shifts)]),
        height=3.2 + 0.06 * len(names),
        width=width,
    )
    axes = figure.subplots()
    looks = style.variant_styles(run.variants)
    draw_bands(axes, data["length"], shifts)
    for name, shift in zip(names, shifts, strict=True):
        rows, look = data[data["variant"] == name], looks[name]
        axes.plot(rows["length"] * shift, rows["kv_bytes_planned"], color=look.color, linewidth=0.9)
        axes.plot(
            rows["length"] * shift,
            rows["kv_bytes_measured"],
            color=look.color,
            marker=look.marker,
            linestyle="none",
            label=look.label,
            markeredgecolor="white",
            mew=0.4,
            markersize=5.5,
        )
    style.length_axis(axes, data["length"].to_numpy(), margin=max(1.25, 1.15 * max(shifts)))
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_locator(LogLocator(base=2, numticks=9))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(words.format_bytes))
    axes.set_ylabel("KV cache of one sequence")
    axes.grid(axis="y")
    planned_entry = Line2D([], [], color=style.INK, linewidth=0.9, label="planned (line)")
    measured_entry = Line2D([], [], color=style.INK, marker="o", linestyle="none", label="measured (marker)")
    legend_of_variants(
        figure,
        [looks[name] for name in names],
        [measured_entry, planned_entry],
    )
    return Drawing(figure, data)
