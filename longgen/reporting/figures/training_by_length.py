"""Figure `training_by_length`: how much faster LongGen trains than full attention, by length, with the FLOP ideal."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from longgen.profiling.training.words import COMPOSED_MODEL, SLICE
from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.figures.kernels import PATTERNS
from longgen.reporting.kernel_measures import is_measured
from longgen.reporting.lines import draw_lines, ideal_entry, legend_of_variants, spread
from longgen.reporting.run import Run
from longgen.reporting.style import VariantStyle

COLUMNS = [
    *("what", "shape", "length", "num_layers", "full_layers", "pattern", "n"),
    *("speedup", "speedup_low", "speedup_high", "ideal_speedup"),
]
_RATIO = 12 / 32  # of the layers are full: the paper's -62 % of KV cache with sink and window
_HOLLOW: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markeredgewidth": 0.9}


def drawn_rows(run: Run) -> pd.DataFrame:
    """Hybrids nearest the ratio 12/32: whole models, composed, and the slices of which they are."""
    rows = run.frame("training-speed")
    rows = rows[is_measured(rows) & rows["what"].isin((COMPOSED_MODEL, SLICE)) & rows["pattern"].isin(list(PATTERNS))]
    rows = rows[rows["speedup"].notna() & (rows["full_layers"] > 0) & (rows["full_layers"] < rows["num_layers"])]
    away = (rows["full_layers"] / rows["num_layers"] - _RATIO).abs()
    nearest = away.groupby([rows[column] for column in ("what", "shape", "length", "pattern")]).transform("min")
    order = {shape: index for index, shape in enumerate(dict.fromkeys(rows["shape"]))}  # the smaller model first
    rows = rows[away == nearest].sort_values(
        ["shape", "pattern", "what", "length"], key=lambda c: c.map(order) if c.name == "shape" else c
    )
    return rows[COLUMNS].reset_index(drop=True)


def draw(run: Run) -> Drawing:
    """One panel per model. Raises ArtifactError if no step of training was timed."""
    data = drawn_rows(run)
    figure = style.new_figure(
        "Training speed-up over full attention", words.device_note(run, "training-speed"), height=2.9
    )
    shapes = list(dict.fromkeys(data["shape"]))
    panels = figure.subplots(1, max(1, len(shapes)), squeeze=False)[0]
    known = style.variant_styles([variant for variant, _ in PATTERNS.values()])
    looks = {
        name: VariantStyle(known[variant].color, known[variant].marker, f"LongGen, {label}: whole model, composed")
        for name, (variant, label) in PATTERNS.items()
        if name in set(data["pattern"])
    }
    for axes, shape in zip(panels, shapes, strict=False):
        of_shape = data[data["shape"] == shape]
        axes.axhline(1, color=known["full"].color, linewidth=0.9)
        for (name, look), shift in zip(looks.items(), spread(len(looks)), strict=True):
            rows = of_shape[of_shape["pattern"] == name]
            models, parts = rows[rows["what"] == COMPOSED_MODEL], rows[rows["what"] == SLICE]
            axes.plot(models["length"], models["ideal_speedup"], color=look.color, lw=0.8, ls=(0, (3, 2)))
            draw_lines(axes, models, "length", "speedup", look, shift)
            draw_lines(axes, parts, "length", "speedup", look, 1.06 * shift, **_HOLLOW, markeredgecolor=look.color)
        style.length_axis(axes, of_shape["length"].to_numpy())
        axes.yaxis.set_major_formatter(words.format_ratio)
        axes.set_ylim(bottom=min(axes.get_ylim()[0], 0.9))
        axes.set_title(shape)
        axes.grid(axis="y")
    panels[0].set_ylabel("speed-up over full attention")
    measured = Line2D([], [], color=style.INK, marker="o", label="a slice of it, measured", **_HOLLOW)
    legend_of_variants(figure, list(looks.values()), [measured, ideal_entry()])
    return Drawing(figure, data)
