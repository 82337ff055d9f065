"""Figure `speed_by_length`: speed-up over full attention by context length, measured and ideal."""

from __future__ import annotations

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import beside, draw_bands, draw_ideal, draw_lines, ideal_entry, legend_of_variants, spread
from longgen.reporting.measures import STAGES, with_ideal
from longgen.reporting.run import Run

COLUMNS = ["variant", "stage", "length", "n", "speedup", "speedup_low", "speedup_high", "ideal_speedup"]


def draw(run: Run) -> Drawing:
    """One panel per stage, logarithmic: measured speed-up with 95 % intervals, the planner's ideal thin and dashed."""
    speed = run.frame("speed")
    data = with_ideal(run, speed[speed["variant"] != "full"]).sort_values("length", kind="stable")
    stages = [stage for stage in STAGES if stage in set(data["stage"])]
    names = [name for name in run.variants if name in set(data["variant"])]
    shifts = spread(len(names))
    figure = style.new_figure(
        "Speed-up over full attention by context length",
        words.SEPARATOR.join([words.run_note(run, "speed"), "bars: 95 % intervals", *beside(shifts)]),
        height=2.9,
    )
    panels = figure.subplots(1, len(stages), squeeze=False)[0]
    looks = style.variant_styles(run.variants)
    for axes, stage in zip(panels, stages, strict=True):
        of_stage = data[data["stage"] == stage]
        axes.axhline(1, color=looks["full"].color, linewidth=0.9)
        draw_bands(axes, of_stage["length"], shifts)
        for name, shift in zip(names, shifts, strict=True):
            rows = of_stage[of_stage["variant"] == name]
            draw_ideal(axes, rows.dropna(subset="ideal_speedup"), looks[name].color, shift)
            draw_lines(axes, rows, "length", "speedup", looks[name], shift)
        style.length_axis(axes, of_stage["length"].to_numpy())
        style.log_axis(axes, 0.8, 1.25)  # no outlier flattens the others
        axes.yaxis.set_major_formatter(words.format_ratio)
        axes.set_title(stage)
        axes.grid(axis="y")
    panels[0].set_ylabel("speed-up over full attention")
    legend_of_variants(figure, [looks[name] for name in names], [ideal_entry()])
    order = {name: index for index, name in enumerate(names)}
    data = data.sort_values(["stage", "variant", "length"], key=lambda c: c.map(order) if c.name == "variant" else c)
    return Drawing(figure, data[COLUMNS].reset_index(drop=True))
