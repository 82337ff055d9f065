"""Figure `inference_by_length`: prefill, decoding and KV cache of LongGen against full attention, by length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from longgen.records.speed import MODEL_DECODE, MODEL_PREFILL
from longgen.reporting import style, words
from longgen.reporting.disturbed import shown_note, with_disturbed
from longgen.reporting.drawing import Drawing
from longgen.reporting.figures.kernels import PATTERNS
from longgen.reporting.inference_measures import inference_rows
from longgen.reporting.kernel_measures import is_measured
from longgen.reporting.lines import (
    beside,
    draw_bands,
    draw_ideal,
    draw_lines,
    ideal_entry,
    legend_of_variants,
    mark_disturbed,
    spread,
)
from longgen.reporting.run import Run
from longgen.reporting.style import VariantStyle

COLUMNS = [
    *("what", "composed", "shape", "length", "num_layers", "full_layers", "pattern", "n"),
    *("speedup", "speedup_low", "speedup_high", "ideal_speedup", "kv_fraction", "speedup_disturbed"),
]
_RATIO = 12 / 32  # of the layers are full: the paper's -62 % of KV cache with sink and window
_HOLLOW_MARKER: dict[str, Any] = {"markerfacecolor": "white", "markeredgewidth": 0.9}
_PANELS = {MODEL_PREFILL: "prefill", MODEL_DECODE: "decoding"}


def drawn_rows(run: Run) -> pd.DataFrame:
    """Whole models nearest the ratio 12/32 with a single sequence, measured and composed."""
    rows = inference_rows(run)
    rows = rows[rows["batch"] == 1]
    rows = rows[is_measured(rows) & rows["what"].isin(list(_PANELS)) & rows["pattern"].isin(list(PATTERNS))]
    rows = with_disturbed(rows[rows["speedup"].notna()])
    away = (rows["full_layers"] / rows["num_layers"] - _RATIO).abs()
    rows = rows[away == away.groupby(rows["shape"]).transform("min")]
    order = {shape: index for index, shape in enumerate(dict.fromkeys(rows["shape"]))}
    rows = rows.sort_values(
        ["shape", "what", "pattern", "composed", "length"], key=lambda c: c.map(order) if c.name == "shape" else c
    )
    return rows[COLUMNS].reset_index(drop=True)


def draw(run: Run) -> Drawing:
    """A row of panels per model. Raises ArtifactError if neither prefill nor decoding was timed."""
    data = drawn_rows(run)
    shapes = list(dict.fromkeys(data["shape"])) or [""]
    shifts = spread(len(set(data["pattern"])))
    parts = [words.device_note(run, "inference-speed"), "bars: 95 % intervals", *beside(shifts)]
    parts.append(shown_note(data, "speedup_disturbed", _in_words))
    note = words.SEPARATOR.join(filter(None, parts))
    figure = style.new_figure("Prefill, decoding and KV cache against full attention", note, 0.8 + 2.1 * len(shapes))
    styles = style.variant_styles([variant for variant, _ in PATTERNS.values()])
    looks = {
        name: VariantStyle(styles[variant].color, styles[variant].marker, f"LongGen, {label}")
        for name, (variant, label) in PATTERNS.items()
        if name in set(data["pattern"])
    }
    panels = figure.subplots(len(shapes), 3, squeeze=False)
    for row, shape in zip(panels, shapes, strict=True):
        of_shape = data[data["shape"] == shape]
        for axes, (what, title) in zip(row, _PANELS.items(), strict=False):
            axes.axhline(1, color=styles["full"].color, linewidth=0.9)
            _draw_speedups(axes, of_shape[of_shape["what"] == what], looks)
            axes.set_title(f"{shape} {title}")
            axes.yaxis.set_major_formatter(words.format_ratio)
            axes.set_ylim(bottom=min(axes.get_ylim()[0], 0.9))
        _draw_cache(row[2], of_shape[of_shape["what"] == MODEL_PREFILL], looks)
        row[2].set_title(f"{shape} KV cache")
        row[0].set_ylabel("speed-up")
        row[2].set_ylabel("% of full attention")
        for axes in row:
            axes.grid(axis="y")
            draw_bands(axes, of_shape["length"], [*shifts, _composed_shift(of_shape) * shifts[-1]] if shifts else [])
            if len(of_shape):
                style.length_axis(axes, of_shape["length"].to_numpy())
    composed = data["composed"].astype(bool)
    whole = Line2D([], [], color=style.INK, marker="o", label="the whole model, measured")
    slices = Line2D([], [], color=style.INK, marker="o", linestyle="none", label="composed of slices", **_HOLLOW_MARKER)
    marks = [entry for entry, drawn in ((whole, ~composed), (slices, composed)) if drawn.any()]
    legend_of_variants(figure, list(looks.values()), [*marks, ideal_entry(data)])
    return Drawing(figure, data)


def _in_words(row: Mapping[Any, Any]) -> str:
    return f"{_PANELS[row['what']]} with {PATTERNS[row['pattern']][1]} at {words.format_length(row['length'])}"


def _composed_shift(rows: pd.DataFrame) -> float:
    """Factor of x for composed models: beside whole ones, where there are both."""
    return 1.06 if rows["composed"].nunique() > 1 else 1.0


def _draw_speedups(axes: Axes, rows: pd.DataFrame, looks: dict[str, VariantStyle]) -> None:
    for (name, look), shift in zip(looks.items(), spread(len(looks)), strict=True):
        of_pattern = rows[rows["pattern"] == name]
        draw_ideal(axes, of_pattern, look.color, shift)
        is_composed = of_pattern["composed"].astype(bool)
        draw_lines(axes, of_pattern[~is_composed], "length", "speedup", look, shift)
        for each, aside in ((~is_composed, 1.0), (is_composed, _composed_shift(rows))):
            mark_disturbed(axes, of_pattern[each], "length", "speedup", "speedup_disturbed", aside * shift)
        marker = _HOLLOW_MARKER | {"markeredgecolor": look.color, "linestyle": "none"}
        draw_lines(axes, of_pattern[is_composed], "length", "speedup", look, _composed_shift(rows) * shift, **marker)


def _draw_cache(axes: Axes, rows: pd.DataFrame, looks: dict[str, VariantStyle]) -> None:
    for (name, look), shift in zip(looks.items(), spread(len(looks)), strict=True):
        for is_composed, part in rows[rows["pattern"] == name].groupby("composed"):
            marker = _HOLLOW_MARKER | {"markeredgecolor": look.color, "linestyle": "none"} if is_composed else {}
            x, y = part["length"] * shift * (_composed_shift(rows) if is_composed else 1), 100 * part["kv_fraction"]
            axes.plot(x, y, color=look.color, marker=look.marker, **marker)
    axes.set_ylim(0, 105)
