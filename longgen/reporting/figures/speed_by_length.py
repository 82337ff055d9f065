"""Figure `speed_by_length`: speed-up over full attention by context length, measured and ideal."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from longgen.reporting import style, words
from longgen.reporting.disturbed import shown_note, with_disturbed
from longgen.reporting.drawing import Drawing
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
from longgen.reporting.measures import STAGES, with_ideal
from longgen.reporting.run import Run
from longgen.reporting.side_by_side import shared_panels

COLUMNS = [
    *("variant", "stage", "length", "n", "speedup", "speedup_low", "speedup_high", "ideal_speedup"),
    "speedup_disturbed",
]


def draw(run: Run) -> Drawing:
    """Measured speed-ups with 95 % intervals, the planner's ideal thin and dashed, all of them logarithmic.

    A panel per stage, or a row of panels where variants are many (`shared_panels`), each with an axis of its own: what
    changes little is not to be flattened by what changes much.
    """
    speed = run.frame("speed")
    data = with_disturbed(with_ideal(run, speed[speed["variant"] != "full"])).sort_values("length", kind="stable")
    stages = [stage for stage in STAGES if stage in set(data["stage"])]
    names = [name for name in run.variants if name in set(data["variant"])]
    columns = shared_panels(run.plan, names)
    note = [words.run_note(run, "speed"), "bars: 95 % intervals", *beside(names)]
    note.append(shown_note(data, "speedup_disturbed", words.speed_label))
    lines, across = (len(stages), len(columns)) if len(columns) > 1 else (1, len(stages))
    figure = style.new_figure(
        "Speed-up over full attention by context length",
        words.SEPARATOR.join(filter(None, note)),
        height=1.15 + 1.75 * lines,
    )
    panels = figure.subplots(lines, across, squeeze=False)
    looks = style.variant_styles(run.variants)
    cells = [(stage, column) for stage in stages for column in columns]
    for number, (axes, (stage, column)) in enumerate(zip(panels.flat, cells, strict=True)):
        shown = columns[column]
        of_stage = data[(data["stage"] == stage) & data["variant"].isin(shown)]
        shifts = spread_apart(len(shown), of_stage["length"], (style.WIDTH - 0.9) / across)
        axes.axhline(1, color=looks["full"].color, linewidth=0.9)
        draw_bands(axes, of_stage["length"], shifts)
        _draw_ideals(axes, of_stage, dict(zip(shown, shifts, strict=True)), looks)
        for name, shift in zip(shown, shifts, strict=True):
            rows = of_stage[of_stage["variant"] == name]
            draw_lines(axes, rows, "length", "speedup", looks[name], shift, linewidth=1.1)
            mark_disturbed(axes, rows, "length", "speedup", "speedup_disturbed", shift)
        style.length_axis(axes, of_stage["length"].to_numpy(), margin=max(1.25, 1.15 * max(shifts)))
        style.log_axis(axes, 0.8, 1.25)  # no outlier flattens the others
        axes.yaxis.set_major_formatter(words.format_ratio)
        axes.grid(axis="y")
        if not column:
            axes.set_title(stage)
        elif number < across:
            axes.set_title(column, fontweight="bold")
        if column and number % across == 0:
            axes.set_ylabel(f"{stage}\nspeed-up")
        if number + across < len(cells):
            axes.set_xlabel("")
    if "" in columns:
        panels[0, 0].set_ylabel("speed-up over full attention")
    figure.align_ylabels(panels[:, 0])
    legend_of_variants(figure, [looks[name] for name in names], [ideal_entry(data)])
    order = {name: index for index, name in enumerate(names)}
    data = data.sort_values(["stage", "variant", "length"], key=lambda c: c.map(order) if c.name == "variant" else c)
    return Drawing(figure, data[COLUMNS].reset_index(drop=True))


def _draw_ideals(
    axes: Axes, rows: pd.DataFrame, shifts: dict[str, float], looks: dict[str, style.VariantStyle]
) -> None:
    """The ideal of each variant: grey and once where several have the same, as variants of one ratio have."""
    same: dict[tuple, list[str]] = {}
    for name in shifts:
        of_variant = rows[(rows["variant"] == name) & rows["ideal_speedup"].notna()]
        values = zip(of_variant["length"], of_variant["ideal_speedup"].round(9), strict=True)
        same.setdefault(tuple(values), []).append(name)
    for names in same.values():
        of_variant = rows[(rows["variant"] == names[0]) & rows["ideal_speedup"].notna()]
        alone = len(names) == 1
        draw_ideal(
            axes, of_variant, looks[names[0]].color if alone else style.MUTED, shifts[names[0]] if alone else 1.0
        )
