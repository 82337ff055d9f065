"""Heat maps by context length and depth of the needle, shared by the figures of needles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from longgen.reporting import style, words

# inches
PANELS_WIDTH = style.WIDTH - 1.3
LENGTH_WIDTH = 0.27  # of a length below the axes
TITLE_WIDTH = 0.066  # of a character above them
CELL_WITH_VALUE = 0.21  # narrower cells have no room for a number


def draw_heat_maps(
    title: str, note: str, panels: Mapping[str, pd.DataFrame], value: str, marks: Mapping[str, int]
) -> Figure:
    """Exact match in heat maps: length on x, depth on y with 0 (the start) at the top.

    Args:
        title: of the figure.
        note: its small print.
        panels: by title; columns ``length`` and ``depth``, unique together, and the value.
        value: name of the column with the value, 0 to 1.
        marks: lines after the last column within a length (tokens), by their text: ``base``, ``trained``.
    """
    cells = pd.concat(panels.values())
    lengths, depths = sorted(set(cells["length"])), sorted(set(cells["depth"]))
    columns = _columns(len(panels), len(lengths), max(map(len, panels)))
    lines = math.ceil(len(panels) / columns)
    figure = style.new_figure(title, note, height=0.95 + max(1.65, 0.6 + 0.13 * len(depths)) * lines)
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    mesh = None
    for axes, (name, rows) in zip(grid.flat, panels.items(), strict=False):
        matrix = rows.pivot(index="depth", columns="length", values=value)
        with_values = PANELS_WIDTH / columns / len(lengths) >= CELL_WITH_VALUE
        mesh = draw_grid(axes, matrix.reindex(index=depths, columns=lengths).to_numpy(), with_values)
        axes.set_title(name, pad=style.ABOVE)
        for text, length in marks.items():
            _mark(axes, lengths, length, text)
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    for index in range(len(panels)):
        line, column = divmod(index, columns)
        axes = grid[line, column]
        axes.set_xticks(range(len(lengths)), [words.format_length(length) for length in lengths])
        axes.set_yticks(range(len(depths)), [words.format_percent(depth) for depth in depths])
        last = index + columns >= len(panels)  # nothing below it, also where the last line is not full
        axes.tick_params(labelbottom=last)
        axes.set_xlabel(("length (tokens)" if columns > 4 else "context length (tokens)") if last else "")
        axes.set_ylabel("depth of the needle" if column == 0 else "")
    assert mesh is not None
    panel_axes = list(grid.flat[: len(panels)])
    figure.colorbar(mesh, ax=panel_axes, label="exact match", aspect=12 * lines, fraction=0.05, pad=0.01)
    return figure


def samples_per_cell(data: pd.DataFrame) -> str:
    """Column ``n`` in words, such as "20 samples per cell"."""
    low, high = int(data["n"].min()), int(data["n"].max())
    return f"{low} samples per cell" if low == high else f"{low} to {high} samples per cell"


def _columns(panels: int, lengths: int, title: int) -> int:
    """Panels per line: as few empty places as possible, rather more than fewer, wide enough for lengths and titles."""
    fitting = max(1, int(PANELS_WIDTH / max(LENGTH_WIDTH * lengths, TITLE_WIDTH * title)))
    allowed = range(min(panels, fitting, 5), 0 if panels == 1 or fitting == 1 else 1, -1)
    return min(allowed, key=lambda columns: -panels % columns)


def best_of_columns(matrix: np.ndarray) -> np.ndarray:
    """Whether a cell is the best of its column as `draw_grid` writes it: what reads alike is best alike."""
    return np.round(matrix, 2) == np.nanmax(np.round(matrix, 2), axis=0)


def draw_grid(axes: Axes, matrix: np.ndarray, with_values: bool, bold: np.ndarray | None = None) -> QuadMesh:
    """Cells from 0 to 1 (NaN: not evaluated, grey), the first row at the top; with their numbers if there is room.

    ``bold`` says of which cells the numbers are.
    """
    depths, lengths = matrix.shape
    valid_cells = np.ma.masked_invalid(matrix)
    mesh = axes.pcolormesh(
        np.arange(lengths + 1) - 0.5,
        np.arange(depths + 1) - 0.5,
        valid_cells,
        cmap=rcParams["image.cmap"],
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
                weight = "bold" if bold is not None and bold[row, column] else "normal"
                text = axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=color)
                text.set_fontweight(weight)
    return mesh


def _mark(axes: Axes, lengths: Sequence[float], length: int, text: str) -> None:
    """A line after the last column within a length: dashed for the base, solid for the trained length."""
    edge = sum(value <= length for value in lengths) - 0.5
    if edge < 0:  # every column is beyond it
        return
    axes.axvline(edge, color=style.INK, linewidth=1.3, linestyle="-" if text == "trained" else (0, (2, 1.2)))
    style.write_above(axes, edge, text, "center" if text == "base" else "right", style.INK)
