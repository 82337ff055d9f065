"""Figure `probe`: what each layer costs when it is sparse, and what sets of full layers cost, by their number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from longgen.errors import ArtifactError
from longgen.layout import count_full_layers, make_layout
from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import Run
from longgen.statistics import mean_interval

ALONE = "alone"
ENDS = {"full": "all full", "sparse": "all sparse"}
# curve -> colour, marker, label: placements look like the variants that have them, choices like no variant
LOOKS = {
    "greedy": ("#AA4499", "d", "greedy choice"),
    "ranked": ("#44AA99", "h", "costliest alone"),
    "middle": ("#0072B2", "s", "middle (the paper's)"),
    "interleaved": ("#882255", "p", "interleaved"),
    "ends": ("#009E73", "P", "ends"),
    "bottom": ("#999933", "v", "bottom"),
    "top": ("#E69F00", "^", "top"),
    "heads": ("#CC79A7", "X", "heads of every layer"),
}
COLUMNS = ["by", "set", "full_layers", "layer", "head", "n", "value", "value_low", "value_high"]
_LINEAR = 0.1  # nats within which costs are drawn on a linear scale; beyond it is logarithmic
_TICKS = [sign * tick for tick in (0.1, 0.3, 1, 3, 10, 30) for sign in (-1, 1)]
PAPER = "1/3"


def draw(run: Run) -> Drawing:
    """Two panels each for layers and for heads, as far as they were probed: single costs, and curves."""
    records = run.frame("probe")
    units = [by for by in ("layers", "heads") if by in set(records["by"])]
    settings = {each.settings.get("by"): each.settings for each in run.results if each.kind == "probe"}
    data = pd.concat([_values(records[records["by"] == by], run) for by in units], ignore_index=True)
    figure = style.new_figure("What sparse layers cost on answers, before training", _note(run, settings), height=5.4)
    panels = figure.subplots(2, len(units), squeeze=False)
    for column, by in enumerate(units):
        layers = int(settings[by]["model"]["num_layers"])
        own = data[data["by"] == by]
        _draw_costs(panels[0, column], own[own["set"] == ALONE], layers, by)
        _draw_curves(panels[1, column], own[own["set"] != ALONE], layers, by)
    sets = [name for name in LOOKS if name in set(data["set"])]
    handles: list[Any] = [_entry(name) for name in sets]
    handles += [
        Line2D([], [], color=style.INK, marker="|", linestyle="none", label="95 % interval, paired with all full"),
        Patch(color=style.UNSEEN_COLOR, label=f"middle {PAPER} of the layers"),
    ]
    style.legend_below(figure, handles)
    return Drawing(figure, data)


def _values(records: pd.DataFrame, run: Run) -> pd.DataFrame:
    """What is drawn of one probe: of single units the cost, of sets the loss, with intervals of the cost.

    The cost is the loss less that of the model with all layers full, paired over prompts.
    """
    full = records[records["set"] == "full"]
    if len(full) != 1 or len(set(records["n"])) != 1:
        raise ArtifactError(
            f"{run.folder}: kind probe has {len(full)} records of all layers full by {records['by'].iloc[0]}, and "
            f"{len(set(records['n']))} numbers of prompts: allowed is one of each, as one probe makes them"
        )
    base = np.array(full["answer_losses"].iloc[0])
    unit_records = records[records["set"].isin([ALONE, *ENDS, *LOOKS])]
    rows = []
    for record in unit_records.to_dict("records"):
        costs = np.array(record["answer_losses"]) - base
        offset = 0.0 if record["set"] == ALONE else float(base.mean())
        low, high = mean_interval(costs) if len(costs) > 1 else (np.nan, np.nan)
        interval = {"value": costs.mean() + offset, "value_low": low + offset, "value_high": high + offset}
        rows.append({name: record[name] for name in COLUMNS[:6]} | interval)
    return pd.DataFrame(rows, columns=COLUMNS)


def _note(run: Run, settings: dict[Any, dict[str, Any]]) -> str:
    probe = next(iter(settings.values()))
    parts = [
        f"run {run.name}",
        f"model {probe['model']['name']}, {probe['model']['num_layers']} layers",
        f"{probe['prompts']} prompts of {words.format_length(probe['length'])} tokens",
        run.device("probe"),
        run.days("probe"),
    ]
    return words.SEPARATOR.join(part for part in parts if part)


def _draw_costs(axes: Axes, rows: pd.DataFrame, layers: int, by: str) -> None:
    paper = [layer for layer, full in enumerate(make_layout(layers, PAPER).full) if full]
    if paper:
        axes.axvspan(min(paper) - 0.5, max(paper) + 0.5, color=style.UNSEEN_COLOR, zorder=0)
    heads = 1 if rows["head"].isna().all() else int(rows["head"].max()) + 1
    shift = (rows["head"].fillna(0) - (heads - 1) / 2) * (0.8 / heads)
    axes.axhline(0, color=style.MUTED, linewidth=0.7)
    axes.errorbar(
        rows["layer"] + shift,
        rows["value"],
        yerr=_arms(rows, -np.inf),
        color=style.INK,
        marker="o",
        markersize=4.5 if heads == 1 else 2.8,
        linestyle="none",
        elinewidth=0.8,
        capsize=1.8 if heads == 1 else 0,
    )
    axes.set_yscale("symlog", linthresh=_LINEAR)
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(FixedLocator([tick for tick in [0, *_TICKS] if low <= tick <= high]))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.set_xlim(-0.8, layers - 0.2)
    axes.grid(axis="y")
    axes.set_title(f"One {'layer' if by == 'layers' else 'KV head'} sparse, all others full")
    axes.set_xlabel("layer, 0 is at the bottom")
    axes.set_ylabel("cost (nats per token)")


def _draw_curves(axes: Axes, rows: pd.DataFrame, layers: int, by: str) -> None:
    axes.set_yscale("log")
    floor = 0.7 * float(rows["value"].min())  # arms of intervals end there: a logarithm has no zero
    ends = {name: rows[rows["set"] == name] for name in ENDS}
    for name, end in ends.items():
        loss = float(end["value"].iloc[0])
        axes.axhline(loss, color=style.INK, linewidth=0.8, linestyle=(0, (3, 2)), zorder=1)
        text = axes.annotate(
            ENDS[name],
            (0.997 if name == "sparse" else 0.003, loss),
            (0, 2),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
        )
        text.set(ha="right" if name == "sparse" else "left", fontsize=6.5, color=style.MUTED)
    names = [name for name in LOOKS if name in set(rows["set"])]
    for name, shift in zip(names, _shifts(len(names), layers), strict=True):
        # the greedy choice ends early: what lies between its end and all full is not known
        last = [] if name == "greedy" else [ends["full"]]
        own = pd.concat([ends["sparse"], rows[rows["set"] == name], *last]).sort_values("full_layers")
        color, marker, _ = LOOKS[name]
        inner = own[~own["set"].isin(ENDS)]
        axes.plot(own["full_layers"] + shift, own["value"], color=color, linewidth=1.2)
        axes.errorbar(
            inner["full_layers"] + shift,
            inner["value"],
            yerr=_arms(inner, floor),
            color=color,
            marker=marker,
            linestyle="none",
            elinewidth=0.6,
            capsize=1.2,
            markeredgecolor="white",
            markeredgewidth=0.4,
        )
    style.log_axis(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.axvline(count_full_layers(layers, PAPER), color=style.UNSEEN_COLOR, linewidth=6, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=16))
    axes.set_xlim(-0.02 * layers, 1.02 * layers)
    axes.grid(axis="y")
    axes.set_title("Sets of full layers" if by == "layers" else "Sets of full heads")
    axes.set_xlabel("full layers" if by == "layers" else "full heads, in layers' worth")
    axes.set_ylabel("loss (nats per token)")


def _arms(rows: pd.DataFrame, floor: float) -> np.ndarray:
    """Lengths of the intervals' arms, [2, rows]; the lower ones end at ``floor``."""
    low = np.maximum(rows["value_low"], floor)
    return np.nan_to_num(np.stack([rows["value"] - low, rows["value_high"] - rows["value"]]).clip(min=0))


def _shifts(count: int, layers: int) -> Sequence[float]:
    """Beside each other, so that intervals do not cover one another."""
    return [0.004 * layers * (index - (count - 1) / 2) for index in range(count)]


def _entry(name: str) -> Line2D:
    color, marker, label = LOOKS[name]
    return Line2D([], [], color=color, marker=marker, label=label, markeredgecolor="white", mew=0.4)
