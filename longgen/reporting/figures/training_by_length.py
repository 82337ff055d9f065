"""Figure `training_by_length`: time, throughput and speed-up of training steps by length, with the FLOP ideal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from longgen.records.speed import COMPOSED_MODEL, SLICE
from longgen.reporting import style, words
from longgen.reporting.disturbed import is_set, shown_note, with_disturbed
from longgen.reporting.drawing import Drawing
from longgen.reporting.figures.kernels import PATTERNS
from longgen.reporting.kernel_measures import is_measured
from longgen.reporting.lines import (
    beside,
    draw_bands,
    draw_ideal,
    draw_lines,
    ideal_entry,
    legend_of_variants,
    mark_disturbed,
    spread_apart,
)
from longgen.reporting.run import Run
from longgen.reporting.style import VariantStyle

RATES = [f"tokens_per_second{end}" for end in ("", "_low", "_high")]
COLUMNS = [
    *("what", "shape", "length", "num_layers", "full_layers", "pattern", "n"),
    *("seconds", "seconds_low", "seconds_high", *RATES),
    *("speedup", "speedup_low", "speedup_high", "ideal_speedup", "disturbed", "speedup_disturbed"),
]
_RATIO = 12 / 32  # of the layers are full: the paper's -62 % of KV cache with sink and window
_SLICE_SHIFT = 1.06  # factor of x: beside the whole model
_HOLLOW_MARKER: dict[str, Any] = {"linestyle": "none", "markerfacecolor": "white", "markeredgewidth": 0.9}


def drawn_rows(run: Run) -> pd.DataFrame:
    """Whole models, composed: full attention and hybrids nearest the ratio 12/32; and the slices of such hybrids.

    ``tokens_per_second`` is that of whole models, on one row of tokens: a slice's is no model's.
    """
    rows = run.frame("training-speed")
    rows = with_disturbed(rows)
    rows = rows[is_measured(rows) & rows["what"].isin((COMPOSED_MODEL, SLICE)) & rows["pattern"].isin(list(PATTERNS))]
    hybrid = (rows["full_layers"] > 0) & (rows["full_layers"] < rows["num_layers"]) & rows["speedup"].notna()
    full = (rows["full_layers"] == rows["num_layers"]) & (rows["what"] == COMPOSED_MODEL)
    rows = rows[hybrid | full]
    away = (rows["full_layers"] / rows["num_layers"] - _RATIO).abs()
    nearest = away.groupby([rows[column] for column in ("what", "shape", "length", "pattern")]).transform("min")
    order = {shape: index for index, shape in enumerate(dict.fromkeys(rows["shape"]))}  # the smaller model first
    rows = rows[away == nearest].sort_values(
        ["shape", "pattern", "what", "length"], key=lambda c: c.map(order) if c.name == "shape" else c
    )
    whole = rows["length"].where(rows["what"] == COMPOSED_MODEL)
    ends = ("seconds", "seconds_high", "seconds_low")  # the longest time is the lowest rate
    rates = {rate: whole / rows[seconds] for rate, seconds in zip(RATES, ends, strict=True)}
    return rows.assign(**rates)[COLUMNS].reset_index(drop=True)


def draw(run: Run) -> Drawing:
    """A column per model: a step's time, its throughput, and the speed-up. Raises ArtifactError if none was timed."""
    data = drawn_rows(run)
    width = (style.WIDTH - 1) / max(1, data["shape"].nunique())
    shifts = spread_apart(len(set(data["pattern"])), data["length"], width) if len(data) else []
    parts = [words.device_note(run, "training-speed"), "bars: 95 % intervals", *beside(shifts)]
    shown = data.assign(any=is_set(data["disturbed"]) | is_set(data["speedup_disturbed"]))
    parts.append(shown_note(shown, "any", _in_words))
    note = words.SEPARATOR.join(filter(None, parts))
    figure = style.new_figure("Training steps by length", note, height=6.2)
    shapes = list(dict.fromkeys(data["shape"]))
    panels = figure.subplots(3, max(1, len(shapes)), squeeze=False, sharex="col")
    styles = style.variant_styles([variant for variant, _ in PATTERNS.values()])
    looks = {
        name: VariantStyle(styles[variant].color, styles[variant].marker, f"{_NAMES[name]}: whole model, composed")
        for name, (variant, _) in PATTERNS.items()
        if name in set(data["pattern"])
    }
    for (time, rate, speedup), shape in zip(panels.T, shapes, strict=False):
        of_shape = data[data["shape"] == shape]
        models, slices = of_shape[of_shape["what"] == COMPOSED_MODEL], of_shape[of_shape["what"] == SLICE]
        speedup.axhline(1, color=styles["full"].color, linewidth=0.9)
        for axes in (time, rate):
            draw_bands(axes, of_shape["length"], shifts)
        draw_bands(speedup, of_shape["length"], [*shifts, _SLICE_SHIFT * shifts[-1]] if len(slices) else shifts)
        for (name, look), shift in zip(looks.items(), shifts, strict=True):
            rows = models[models["pattern"] == name]
            draw_lines(time, rows, "length", "seconds", look, shift)
            draw_lines(rate, rows, "length", "tokens_per_second", look, shift)
            mark_disturbed(time, rows, "length", "seconds", "disturbed", shift)
            mark_disturbed(rate, rows, "length", "tokens_per_second", "disturbed", shift)
            if name != "full":  # over itself it is the line at 1
                _draw_speedups(speedup, rows, slices[slices["pattern"] == name], look, shift)
        for axes in (time, rate):
            style.log_axis(axes)
        time.yaxis.set_major_formatter(FuncFormatter(words.format_seconds))
        rate.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        speedup.yaxis.set_major_formatter(words.format_ratio)
        speedup.set_ylim(bottom=min(speedup.get_ylim()[0], 0.9))
        style.length_axis(speedup, of_shape["length"].to_numpy())
        time.set_title(shape)
    for axes in panels.flat:
        axes.grid(axis="y")
    for axes, label in zip(panels[:, 0], ("time of a step", "tokens per second", "speed-up over full"), strict=True):
        axes.set_ylabel(label)
    figure.align_ylabels(panels[:, 0])
    slice_entry = Line2D([], [], color=style.INK, marker="o", label="a slice of it, measured", **_HOLLOW_MARKER)
    has_slices = (data["what"] == SLICE).any()
    legend_of_variants(figure, list(looks.values()), [*([slice_entry] if has_slices else []), ideal_entry(data)])
    return Drawing(figure, data)


_NAMES = {name: "full attention" if name == "full" else f"LongGen, {label}" for name, (_, label) in PATTERNS.items()}


def _in_words(row: Mapping[Any, Any]) -> str:
    what = "a slice" if row["what"] == SLICE else "the model"
    return f"{what} of {row['shape']} with {PATTERNS[row['pattern']][1]} at {words.format_length(row['length'])}"


def _draw_speedups(axes: Axes, models: pd.DataFrame, slices: pd.DataFrame, look: VariantStyle, shift: float) -> None:
    """Of a hybrid: whole models as a line, slices as hollow markers, the ideal thin and dashed."""
    draw_ideal(axes, models, look.color, shift)
    draw_lines(axes, models, "length", "speedup", look, shift)
    mark_disturbed(axes, models, "length", "speedup", "speedup_disturbed", shift)
    mark_disturbed(axes, slices, "length", "speedup", "speedup_disturbed", _SLICE_SHIFT * shift)
    draw_lines(
        axes, slices, "length", "speedup", look, _SLICE_SHIFT * shift, **_HOLLOW_MARKER, markeredgecolor=look.color
    )
