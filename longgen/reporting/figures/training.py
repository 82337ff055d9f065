"""Figure `training`: loss, and accuracy on answers, of the base model and of every variant's extension."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import legend_of_variants, marks_apart
from longgen.reporting.run import Run

STAGES = {"base": "base model", "extension": "context extension"}
BASE = style.VariantStyle(style.MUTED, "*", "base model")
COLUMNS = ["variant", "stage", "phase", "step", "length", "tokens", "loss", "loss_smoothed", "answer_accuracy"]
SMOOTHED_ABOVE = 60  # points; fewer are drawn as they are
_RAW: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.35}
MEASURES = {"loss": "loss (nats per token)", "answer_accuracy": "accuracy on answers"}


def smooth(loss: pd.Series) -> pd.Series:
    """Centred moving mean over a fortieth of the curve; a short curve stays as it is."""
    window = 1 if len(loss) <= SMOOTHED_ABOVE else max(3, len(loss) // 40)
    return loss.rolling(window, center=True, min_periods=1).mean()


def draw(run: Run) -> Drawing:
    """Curves over the tokens of the stage: one column per stage; raw loss pale behind its moving mean."""
    data = run.frame("training").sort_values(["stage", "tokens"], kind="stable")
    data["loss_smoothed"] = data.groupby(["variant", "stage"], sort=False)["loss"].transform(smooth)
    data = data[COLUMNS].reset_index(drop=True)
    stages = [stage for stage in STAGES if stage in set(data["stage"])]
    measures = ["loss"] + (["answer_accuracy"] if data["answer_accuracy"].notna().any() else [])
    figure = style.new_figure(
        "Training of the base model and of the context extension",
        f"{words.run_note(run, 'training')} · above the panels: training length in tokens",
        height=1.2 + 1.7 * len(measures),
    )
    panels = figure.subplots(len(measures), len(stages), squeeze=False, sharex="col")
    looks = style.variant_styles(run.variants) | {"base": BASE}
    for column, stage in enumerate(stages):
        for axes, measure in zip(panels[:, column], measures, strict=True):
            rows = data[data["stage"] == stage]
            curves = list(rows.groupby("variant", sort=False))
            for index, (name, curve) in enumerate(curves):
                look = BASE if stage == "base" else looks[str(name)]
                _draw_curve(axes, curve, measure, look, marks_apart(len(curve), index, len(curves)))
            axes.grid(axis="y")
            axes.set_xlim(left=-0.02 * axes.get_xlim()[1])  # the first length begins at nothing
            _mark_phases(axes, rows, label=measure == "loss")
        panels[0, column].set_title(STAGES[stage], pad=style.ABOVE)
        panels[-1, column].set_xlabel("tokens of this stage (millions)")
    for line, measure in enumerate(measures):
        panels[line, 0].set_ylabel(MEASURES[measure])
    if "answer_accuracy" in measures:
        for axes in panels[-1]:
            axes.set_ylim(-0.03, 1.03)
    names = [name for name in run.variants if name in set(data["variant"])]
    curve_looks = ([BASE] if "base" in stages else []) + [looks[name] for name in names]
    is_smoothed = data.groupby(["variant", "stage"]).size().max() > SMOOTHED_ABOVE
    raw = Line2D([], [], color=BASE.color, label="pale: loss before the moving mean", **_RAW)
    legend_of_variants(figure, curve_looks, [raw] if is_smoothed else [])
    return Drawing(figure, data)


def _draw_curve(
    axes: Axes, curve: pd.DataFrame, measure: str, look: style.VariantStyle, marks: tuple[int, int]
) -> None:
    millions = curve["tokens"] / 1e6
    if measure == "loss" and len(curve) > SMOOTHED_ABOVE:
        axes.plot(millions, curve["loss"], color=look.color, **_RAW)
    column = "loss_smoothed" if measure == "loss" else measure
    has_value = curve[column].notna()
    axes.plot(
        millions[has_value],
        curve[column][has_value],
        color=look.color,
        label=look.label,
        linewidth=1.0,
        marker=look.marker,
        markevery=marks,
        markersize=5,
        markeredgecolor="white",
        mew=0.4,
    )


def _mark_phases(axes: Axes, rows: pd.DataFrame, label: bool) -> None:
    """A line where the training length changes; the length of each phase above the axes."""
    ends = rows.groupby("phase", sort=False).agg(tokens=("tokens", "max"), length=("length", "first"))
    starts, total = [0, *ends["tokens"]], ends["tokens"].max()
    for index, length in enumerate(ends["length"]):
        start, end = starts[index], starts[index + 1]
        if index:
            axes.axvline(start / 1e6, color=style.MUTED, linewidth=0.7, linestyle=(0, (4, 3)))
        if label and (end - start) / total > 0.08:
            style.write_above(axes, start / 1e6, words.format_length(length), "left")
