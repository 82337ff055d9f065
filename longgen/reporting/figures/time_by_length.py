"""Figure `time_by_length`: time of a training step, a prefill and a decoded token by length, and tokens per second."""

from __future__ import annotations

import pandas as pd
from matplotlib.ticker import FuncFormatter

from longgen.reporting import style, words
from longgen.reporting.disturbed import shown_note, with_disturbed
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import (
    beside,
    draw_bands,
    draw_lines,
    legend_of_variants,
    mark_disturbed,
    spread_apart,
)
from longgen.reporting.measures import STAGES
from longgen.reporting.run import Run

TITLES = {"training": "training step", "prefill": "prefill", "decode": "one decoded token"}
COLUMNS = [
    *("variant", "stage", "length", "n", "seconds", "seconds_low", "seconds_high"),
    *("tokens_per_second", "tokens_per_second_low", "tokens_per_second_high", "disturbed"),
]


def with_throughput(rows: pd.DataFrame) -> pd.DataFrame:
    """``rows`` of kind ``speed`` with ``tokens_per_second`` of one sequence and its ends.

    A training step and a prefill treat all tokens of the sequence, decoding one. The ends follow from those of
    ``seconds``: the longest time is the lowest rate.
    """
    tokens = rows["length"].where(rows["stage"] != "decode", 1)
    return rows.assign(
        tokens_per_second=tokens / rows["seconds"],
        tokens_per_second_low=tokens / rows["seconds_high"],
        tokens_per_second_high=tokens / rows["seconds_low"],
    )


def draw(run: Run) -> Drawing:
    """A column per stage: time above, throughput below, both logarithmic, with 95 % intervals."""
    data = with_disturbed(with_throughput(run.frame("speed"))).sort_values("length", kind="stable")
    stages = [stage for stage in STAGES if stage in set(data["stage"])]
    names = [name for name in run.variants if name in set(data["variant"])]
    note = [words.run_note(run, "speed"), "one sequence", "bars: 95 % intervals", *beside(names)]
    note.append(shown_note(data, "disturbed", words.speed_label))
    figure = style.new_figure(
        "Time and throughput by context length",
        words.SEPARATOR.join(filter(None, note)),
        height=5.2,
    )
    panels = figure.subplots(2, len(stages), squeeze=False, sharex="col")
    looks = style.variant_styles(run.variants)
    for stage, (time, rate) in zip(stages, panels.T, strict=True):
        of_stage = data[data["stage"] == stage]
        shifts = spread_apart(len(names), of_stage["length"], (style.WIDTH - 1.6) / len(stages))
        for axes in (time, rate):
            draw_bands(axes, of_stage["length"], shifts)
        for name, shift in zip(names, shifts, strict=True):
            rows = of_stage[of_stage["variant"] == name]
            for axes, column in ((time, "seconds"), (rate, "tokens_per_second")):
                draw_lines(axes, rows, "length", column, looks[name], shift, linewidth=0.8)
                mark_disturbed(axes, rows, "length", column, "disturbed", shift)
        for axes in (time, rate):
            style.log_axis(axes)
            axes.grid(axis="y")
        time.yaxis.set_major_formatter(FuncFormatter(words.format_seconds))
        rate.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
        style.length_axis(rate, of_stage["length"].to_numpy(), margin=max(1.25, 1.15 * max(shifts)))
        time.set_title(TITLES[stage])
    panels[0, 0].set_ylabel("time")
    panels[1, 0].set_ylabel("tokens per second")
    legend_of_variants(figure, [looks[name] for name in names])
    ranks = {"stage": stages, "variant": names}
    data = data.sort_values(
        ["stage", "variant", "length"], key=lambda c: c.map(ranks[str(c.name)].index) if c.name in ranks else c
    )
    return Drawing(figure, data[COLUMNS].reset_index(drop=True))
