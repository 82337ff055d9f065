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
    shifts = _shifts(data, names, width - 1)
    figure = style.new_figure(
        "KV cache by context length: measured and planned",
        words.SEPARATOR.join([words.run_note(run, "memory"), *beside(set(shifts.values()))]),
        height=3.2 + 0.06 * len(names),
        width=width,
    )
    axes = figure.subplots()
    looks = style.variant_styles(run.variants)
    draw_bands(axes, data["length"], sorted(set(shifts.values())))
    for name, shift in shifts.items():
        rows, look = data[data["variant"] == name], looks[name]
        axes.plot(rows["length"], rows["kv_bytes_planned"], color=look.color, linewidth=0.9)
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
    style.length_axis(axes, data["length"].to_numpy(), margin=max(1.25, 1.15 * max(shifts.values())))
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


def _shifts(data: pd.DataFrame, names: list[str], width: float) -> dict[str, float]:
    """The factor by which a variant's markers stand aside: those of as many bytes, as with as many full layers."""
    by_bytes: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        by_bytes.setdefault(tuple(data.loc[data["variant"] == name, "kv_bytes_planned"]), []).append(name)
    shifts: dict[str, float] = {}
    for alike in by_bytes.values():
        shifts |= dict(zip(alike, spread_apart(len(alike), data["length"], width), strict=True))
    return {name: shifts[name] for name in names}
