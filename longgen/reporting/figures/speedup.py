"""Figure `speedup`: the hybrid over full attention in training, prefill and decode, at the longest length."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from longgen.errors import ArtifactError
from longgen.reporting import style, words
from longgen.reporting.disturbed import shown_note, with_disturbed, with_sign
from longgen.reporting.drawing import Drawing
from longgen.reporting.measures import STAGES, with_ideal
from longgen.reporting.paper import paper_claims
from longgen.reporting.run import Run

COLUMNS = [
    "variant",
    "stage",
    "length",
    "n",
    "speedup",
    "speedup_low",
    "speedup_high",
    "ideal_speedup",
    "paper",
    "speedup_disturbed",
]
_LIMIT_FACTOR = 1.6  # times the greatest measured or published speed-up of a panel: ideals beyond are cut
PAPER_COLOR = "#B2182B"


def speedups(run: Run) -> pd.DataFrame:
    """Per stage the rows of its longest measured length, with the ideal and the paper's value for its own model."""
    speed = run.frame("speed")
    speed = speed[speed["variant"] != "full"]
    if speed.empty:
        raise ArtifactError(f"{run.missing('speed')} (it holds no variant besides full)")
    longest = speed[speed["length"] == speed.groupby("stage")["length"].transform("max")]
    paper = {claim.stage: claim.paper for claim in paper_claims().claims if claim.stage}
    rows = with_disturbed(with_ideal(run, longest))
    return rows.assign(paper=rows["stage"].map(paper))[COLUMNS].reset_index(drop=True)


def draw(run: Run) -> Drawing:
    """Horizontal bars, one panel per stage: measured (filled), ideal (hatched outline), the paper's value (line)."""
    data = speedups(run)
    stages = [stage for stage in STAGES if stage in set(data["stage"])]
    names = list(dict.fromkeys(data["variant"]))
    figure = style.new_figure(
        "Speed-up over full attention at the longest length",
        words.SEPARATOR.join(
            filter(None, [words.run_note(run, "speed"), shown_note(data, "speedup_disturbed", words.speed_label)])
        ),
        height=1.35 + 0.36 * len(names),
    )
    panels = figure.subplots(1, len(stages), squeeze=False, sharey=True)[0]
    looks = style.variant_styles(run.variants)
    are_cut = False
    for axes, stage in zip(panels, stages, strict=True):
        rows = data[data["stage"] == stage].set_index("variant").reindex(names)
        are_cut |= _draw_bars(axes, rows, [looks[name].color for name in names])
        paper = data.loc[data["stage"] == stage, "paper"].iloc[0]
        axes.axvline(paper, color=PAPER_COLOR, linewidth=1.1, linestyle=(0, (1, 1.2)), zorder=4)
        length = data.loc[data["stage"] == stage, "length"].iloc[0]
        axes.set_title(f"{stage}, {words.format_length(length)} tokens", pad=style.ABOVE)
        style.write_above(axes, paper, f"{paper:.2f}{words.TIMES}", "center", PAPER_COLOR)
        axes.set_xlabel(f"speed-up ({words.TIMES})")
    panels[0].set_yticks(range(len(names)), [looks[name].label for name in names])
    panels[0].set_ylim(len(names) - 0.45, -0.75)
    model, paper_length = "7B", words.format_length(paper_claims().length)
    ideal = "ideal, predicted" + (" (with a gap: longer than drawn)" if are_cut else "")
    handles = [
        Patch(facecolor="#8a8a8a", label="measured, with 95 % interval"),
        Patch(facecolor="none", edgecolor=style.INK, hatch="/////", linewidth=0.7, label=ideal),
        Line2D([], [], color=PAPER_COLOR, lw=1.1, ls=(0, (1, 1.2)), label=f"paper, {model} at {paper_length}"),
        Line2D([], [], color=style.INK, linewidth=0.9, label=f"full attention (1{words.TIMES})"),
    ]
    style.legend_below(figure, handles)
    return Drawing(figure, data)


def _draw_bars(axes: Axes, rows: pd.DataFrame, colors: list[str]) -> bool:
    """Bars of one stage; whether any of them is cut."""
    places = np.arange(len(rows))
    values, ideal = rows["speedup"].to_numpy(), rows["ideal_speedup"].to_numpy()
    greatest = np.nanmax(rows[["speedup", "speedup_high", "paper"]].to_numpy())
    # an ideal far beyond all that was measured would squeeze the others
    limit = _LIMIT_FACTOR * greatest
    beyond, widths = ideal > limit, np.minimum(ideal, limit)
    # drawn from 0, so that lengths compare; the ideal above, the measured below, both readable at any ratio
    axes.barh(places - 0.2, widths, 0.36, facecolor="none", edgecolor=colors, hatch="/////", linewidth=0.8)
    errors = np.vstack([values - rows["speedup_low"].to_numpy(), rows["speedup_high"].to_numpy() - values])
    axes.barh(
        places + 0.2,
        values,
        0.36,
        color=colors,
        xerr=np.clip(errors, 0, None),
        error_kw={"elinewidth": 0.9, "capsize": 1.8, "ecolor": style.INK},
    )
    axes.axvline(1, color=style.INK, linewidth=0.9)
    axes.set_xlim(0, np.nanmax([greatest, *widths]) * 1.22)
    for place in places[beyond]:  # a gap in a bar that goes on
        axes.plot(limit * np.array([0.91, 0.94]), place - 0.2 + np.array([0.26, -0.26]), color="white", lw=3, zorder=3)
    ends_of = zip(places, values, rows["speedup_high"], ideal, widths, rows["speedup_disturbed"], strict=True)
    for place, value, high, best, width, is_disturbed in ends_of:
        for end, number, height, mark in ((high, value, 0.2, is_disturbed), (width, best, -0.2, None)):
            if not math.isnan(number):
                axes.annotate(
                    with_sign(f"{number:.2f}{words.TIMES}", mark),
                    (end, place + height),
                    xytext=(2.5, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=6.5,
                    path_effects=[withStroke(linewidth=2, foreground="white")],  # over the paper's line
                    zorder=5,
                )
    return bool(beyond.any())
