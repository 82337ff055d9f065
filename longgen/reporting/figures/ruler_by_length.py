"""Figure `ruler_by_length`: RULER's average over its 13 tasks by context length, and what an effective length needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from longgen.errors import ArtifactError
from longgen.evaluation.protocol import protocol
from longgen.reporting import style
from longgen.reporting.benchmarks import (
    MODEL,
    NONE,
    benchmark_note,
    in_order,
    short_labels,
    with_model,
    with_stand_in_note,
)
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import beside, draw_bands, draw_lines, legend_of_variants, spread
from longgen.reporting.run import Run
from longgen.reporting.style import VariantStyle

COLUMNS = [*MODEL, "length", "n", "value", "value_low", "value_high", "kv_fraction", "stand_in"]


def draw(run: Run) -> Drawing:
    """The official average in percent, one line per model, with 95 % intervals; the trained length if a plan has it."""
    rows = run.frame("benchmark-summary")
    rows = rows[(rows["benchmark"] == "ruler") & (rows["summary"] == "average")]
    if rows.empty:
        raise ArtifactError(f"{run.missing('benchmark-summary')} (it holds no average of RULER)")
    rows = with_model(rows, run.variants)
    labels, budgets = short_labels(rows)
    looks = _looks(run, rows, labels)
    shifts = spread(len(looks), 0.02)
    figure = style.new_figure(
        with_stand_in_note("RULER, average of 13 tasks", rows),
        benchmark_note(run, "benchmark-summary", "95 % intervals", budgets, *beside(shifts)),
        height=3.1 + 0.06 * len(looks),
    )
    axes = figure.subplots()
    threshold = protocol("ruler")["threshold"]
    axes.axhline(threshold, **_THRESHOLD)
    draw_bands(axes, rows["length"], shifts)
    for (model, look), shift in zip(looks.items(), shifts, strict=True):
        of_model = rows[rows["model"] == model].sort_values("length")
        draw_lines(axes, of_model, "length", "value", look, shift)
    style.length_axis(axes, rows["length"].to_numpy())
    if run.has("plan") and rows["length"].min() <= run.plan.trained_length <= rows["length"].max():
        style.mark_length(axes, run.plan.trained_length, "trained length")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("score (%)")
    axes.grid(axis="y")
    threshold_entry = Line2D([], [], label=f"{threshold}: what an effective length needs", **_THRESHOLD)
    legend_of_variants(figure, list(looks.values()), [threshold_entry])
    return Drawing(figure, in_order(rows, ["length"])[COLUMNS])


_THRESHOLD: dict[str, Any] = {"color": style.MUTED, "linewidth": 0.9, "linestyle": (0, (1, 1.5))}


def _looks(run: Run, rows: pd.DataFrame, labels: Mapping[str, str]) -> dict[str, VariantStyle]:
    """By model: variants look as everywhere, and those with a reduced cache have a style of their own."""
    models = rows.drop_duplicates("model")
    keys = {
        row["model"]: row["variant"] if row["method"] == NONE else row["model"] for row in models.to_dict("records")
    }
    styles = style.variant_styles(dict.fromkeys([*run.variants, *keys.values()]))
    return {model: VariantStyle(styles[key].color, styles[key].marker, labels[model]) for model, key in keys.items()}
