"""Figure `needle`: exact match by context length and depth of the needle, one heat map per variant."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from longgen.errors import ArtifactError
from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.measures import pool
from longgen.reporting.run import Run

COLORMAP = "RdYlBu"  # red to blue: the usual look without its red-green
# inches
PANELS_WIDTH = style.WIDTH - 1.3
LENGTH_WIDTH = 0.27  # of a length below the axes
CELL_WITH_VALUE = 0.21  # narrower cells have no room for a number


def draw(run: Run) -> Drawing:
    """Heat maps: length on x, depth on y with 0 (the start) at the top; base and trained length marked."""
    rows = run.frame("retrieval")
    grid = rows[(rows["task"] == "needle") & rows["depth"].notna()]
    if grid.empty:
        raise ArtifactError(f"{run.missing('retrieval')} (it holds no needle at several depths)")
    data = pool(grid, ["variant", "length", "depth"])
    names = list(dict.fromkeys(data["variant"]))
    lengths, depths = sorted(set(data["length"])), sorted(set(data["depth"]))
    columns = _columns(len(names), len(lengths))
    lines = math.ceil(len(names) / columns)
    figure = style.new_figure(
        "Needle in a haystack: exact match by context length and depth of the needle",
        f"{words.run_note(run)} · {_samples(data)} per cell",
        height=0.95 + max(1.65, 0.6 + 0.13 * len(depths)) * lines,
    )
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    mesh = None
    for axes, name in zip(panels.flat, names, strict=False):
        matrix = data[data["variant"] == name].pivot(index="depth", columns="length", values="exact")
        with_values = PANELS_WIDTH / columns / len(lengths) >= CELL_WITH_VALUE
        mesh = _draw_grid(axes, matrix.reindex(index=depths, columns=lengths).to_numpy(), with_values)
        axes.set_title(words.variant_label(name), pad=style.ABOVE)
        _mark(axes, lengths, run.plan.base_length, run.plan.trained_length)
    for axes in panels.flat[len(names) :]:
        axes.remove()
    for index in range(len(names)):
        line, column = divmod(index, columns)
        axes = panels[line, column]
        axes.set_xticks(range(len(lengths)), [words.format_length(length) for length in lengths])
        axes.set_yticks(range(len(depths)), [f"{depth:.0%}" for depth in depths])
        last = index + columns >= len(names)
        axes.tick_params(labelbottom=last)
        axes.set_xlabel(("length (tokens)" if columns > 4 else "context length (tokens)") if last else "")
        axes.set_ylabel("depth of the needle" if column == 0 else "")
    assert mesh is not None
    drawn = list(panels.flat[: len(names)])
    figure.colorbar(mesh, ax=drawn, label="exact match", aspect=12 * lines, fraction=0.05, pad=0.01)
    return Drawing(figure, data)


def _columns(panels: int, lengths: int) -> int:
    """Panels per line: as few empty places as possible, rather more than fewer, wide enough for the lengths."""
    fitting = max(1, int(PANELS_WIDTH / (LENGTH_WIDTH * lengths)))
    allowed = range(min(panels, fitting, 5), 0 if panels == 1 or fitting == 1 else 1, -1)
    return min(allowed, key=lambda columns: -panels % columns)


def _samples(data: pd.DataFrame) -> str:
    low, high = int(data["n"].min()), int(data["n"].max())
    return f"{low} samples" if low == high else f"{low} to {high} samples"


def _draw_grid(axes: Axes, matrix: np.ndarray, with_values: bool) -> QuadMesh:
    depths, lengths = matrix.shape
    masked = np.ma.masked_invalid(matrix)
    mesh = axes.pcolormesh(
        np.arange(lengths + 1) - 0.5,
        np.arange(depths + 1) - 0.5,
        masked,
        cmap=COLORMAP,
        vmin=0,
        vmax=1,
        edgecolors="white",
        linewidth=0.5,
    )
    axes.set_ylim(depths - 0.5, -0.5)
    axes.set_facecolor("#dddddd")  # not evaluated
    if with_values:
        for (row, column), value in np.ndenumerate(matrix):
            if not math.isnan(value):
                color = "white" if value < 0.15 or value > 0.85 else style.INK
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
    return mesh


def _mark(axes: Axes, lengths: list[int], base: int, trained: int) -> None:
    """Lines after the last column within the base length and within the trained length."""
    for length, text in ((base, "base"), (trained, "trained")):
        edge = sum(value <= length for value in lengths) - 0.5
        axes.axvline(edge, color=style.INK, linewidth=1.3, linestyle="-" if text == "trained" else (0, (2, 1.2)))
        style.write_above(axes, edge, text, "center" if text == "base" else "right", style.INK)
