"""Figure `kernels`: our attention kernels by length, against dense kernels, FlexAttention and what is possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.kernel_measures import (
    STAGES,
    copy_bandwidth,
    is_measured,
    kernel_note,
    shape_label,
    speed_rows,
)
from longgen.reporting.lines import draw_lines, ideal_entry
from longgen.reporting.run import Run
from longgen.reporting.style import VariantStyle

COLUMNS = [
    *("stage", "shape", "length", "batch", "pattern", "implementation", "n"),
    *("speedup", "speedup_low", "speedup_high", "ideal_speedup"),
    *("bytes_per_second", "bytes_per_second_low", "bytes_per_second_high", "copy_bandwidth"),
]
SPEEDUP = COLUMNS[7:11]
BANDWIDTH = COLUMNS[11:]
# pattern -> the variant whose colour and marker it has, and its name for readers
PATTERNS = {
    "full": ("full", "full attention"),
    "sink": ("longgen-sink", "sink"),
    "stride-16": ("longgen-stride", "stride 16"),
}


OUR_KERNELS = ("longgen", "longgen full", "longgen decode")


@dataclass(frozen=True)
class Other:
    """What our kernels are compared with: the marker tells it apart, the colour is the pattern's."""

    label: str
    marker: str
    patterns: tuple[str, ...]


OTHERS = {
    "flex-128": Other("FlexAttention, blocks of 128", "^", ("sink", "stride-16")),
    "flex-64": Other("FlexAttention, blocks of 64", "v", ("sink", "stride-16")),
    "sdpa decode": Other("PyTorch (SDPA), full attention", "o", ("full",)),
}
_THIN: dict[str, Any] = {"linewidth": 0.7, "markerfacecolor": "white", "markeredgewidth": 0.8}
_DOTS = (0, (1, 1.2))  # more than one sequence


def drawn_rows(run: Run) -> pd.DataFrame:
    """What the figure shows: speed-ups where a dense kernel was measured too, and rates of decoding."""
    rows = speed_rows(run)
    patterns = dict.fromkeys(OUR_KERNELS, tuple(PATTERNS)) | {name: other.patterns for name, other in OTHERS.items()}
    pairs = zip(rows["implementation"], rows["pattern"], strict=True)
    rows = rows[is_measured(rows) & pd.Series([pattern in patterns.get(name, ()) for name, pattern in pairs])]
    decode = rows["stage"] == "decode"
    rows = rows.assign(copy_bandwidth=copy_bandwidth(run))
    rows.loc[decode, SPEEDUP] = float("nan")
    rows.loc[~decode, BANDWIDTH] = float("nan")
    rows = rows[decode | rows["speedup"].notna()]
    # what is drawn later lies on top: ours
    orders = {"stage": STAGES, "implementation": (*OTHERS, *OUR_KERNELS), "pattern": tuple(PATTERNS)}
    keys = [*orders, "shape", "batch", "length"]
    rows = rows.sort_values(keys, key=lambda c: c.map(orders[str(c.name)].index) if c.name in orders else c)
    return rows[COLUMNS].reset_index(drop=True)


def draw(run: Run) -> Drawing:
    """A column per model and a row per stage: speed-up over the fastest dense kernel; to decode, bytes per second."""
    speeds, data = run.frame("kernel-speed"), drawn_rows(run)
    shapes = speeds.drop_duplicates("shape").to_dict("records")
    figure = style.new_figure("Attention kernels by length", kernel_note(run, "kernel-speed"), height=6.2)
    panels = figure.subplots(len(STAGES), len(shapes), squeeze=False, sharex=True, sharey="row")
    lengths = data["length"] if len(data) else speeds["length"]
    for axes, stage in zip(panels, STAGES, strict=True):
        for panel, shape in zip(axes, shapes, strict=True):
            rows = data[(data["stage"] == stage) & (data["shape"] == shape["shape"])]
            if stage == "decode":
                _draw_rates(panel, rows)
            else:
                _draw_speedups(panel, rows)
            panel.set_title(f"{shape_label(shape)}\n{stage}" if stage == STAGES[0] else stage)
            style.length_axis(panel, lengths.to_numpy(), "context length (tokens)" if stage == STAGES[-1] else "")
            if rows.empty:
                panel.text(0.5, 0.5, "not measured", transform=panel.transAxes, ha="center", color=style.MUTED)
        _finish_row(axes, stage, data[data["stage"] == stage])
    if len(data):
        style.legend_below(figure, _legend(data))
    return Drawing(figure, data)


def _look(pattern: str) -> VariantStyle:
    """The colour and marker that the pattern's variant has in every figure."""
    variant, label = PATTERNS[pattern]
    look = style.variant_styles([variant])[variant]
    return VariantStyle(look.color, look.marker, f"LongGen ({label})")


def _draw_lines(axes: Axes, rows: pd.DataFrame, column: str) -> None:
    """A line per implementation, pattern and number of sequences."""
    for key, line in rows.groupby(["implementation", "pattern", "batch"], sort=False):
        name, pattern, batch = cast(tuple[str, str, int], key)
        look = _look(pattern)
        changes: dict[str, Any] = {"linestyle": _DOTS if batch > 1 else "-"}
        if other := OTHERS.get(name):
            look = VariantStyle(look.color, other.marker, other.label)
            changes |= _THIN | {"markeredgecolor": look.color}
        draw_lines(axes, line, "length", column, look, **changes)


def _draw_speedups(axes: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    axes.axhline(1, color=style.INK, linewidth=0.9)
    sparse = rows[rows["pattern"] != "full"].drop_duplicates(["pattern", "length"])
    for pattern, ideal in sparse.sort_values("length").groupby("pattern", sort=False):
        marker = "_" if len(ideal) == 1 else ""
        color = _look(str(pattern)).color
        axes.plot(ideal["length"], ideal["ideal_speedup"], color=color, marker=marker, lw=0.8, ls=(0, (3, 2)))
    _draw_lines(axes, rows, "speedup")


def _draw_rates(axes: Axes, rows: pd.DataFrame) -> None:
    if rows.empty:
        return
    limit = rows["copy_bandwidth"].iloc[0]
    axes.axhline(limit / 1e9, color=style.MUTED, linewidth=0.9)
    axes.annotate(
        f"copy bandwidth of the device: {limit / 1e9:,.0f} GB/s",
        (0.01, limit / 1e9),
        xycoords=("axes fraction", "data"),
        xytext=(0, 1.5),
        textcoords="offset points",
        fontsize=6.5,
        color=style.MUTED,
    )
    columns = [column for column in BANDWIDTH if column.startswith("bytes")]
    _draw_lines(axes, rows.assign(**{column: rows[column] / 1e9 for column in columns}), "bytes_per_second")


def _finish_row(axes: Sequence[Axes], stage: str, rows: pd.DataFrame) -> None:
    """The y axis that the panels of a stage share."""
    first = axes[0]
    if rows.empty:
        first.set_yticks([])
        return
    if stage == "decode":
        first.set_ylabel("bytes moved (GB/s)")
        style.log_axis(first, high=1.6 * rows["copy_bandwidth"].iloc[0] / 1e9)
        first.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    else:
        first.set_ylabel("speed-up over dense")
        style.log_axis(first, 0.8, 1.25)
        first.yaxis.set_major_formatter(words.format_ratio)
    for panel in axes:
        panel.grid(axis="y")


def _legend(data: pd.DataFrame) -> list[Artist]:
    """An entry for everything that is drawn, and for nothing else."""
    handles: list[Artist] = []
    own_patterns, names = (
        set(data.loc[data["implementation"].isin(OUR_KERNELS), "pattern"]),
        set(data["implementation"]),
    )
    for look in [_look(pattern) for pattern in PATTERNS if pattern in own_patterns]:
        edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.4}
        handles.append(Line2D([], [], color=look.color, marker=look.marker, label=look.label, **edge))
    for other in [other for name, other in OTHERS.items() if name in names]:
        line = _THIN | {"color": style.MUTED, "marker": other.marker, "markeredgecolor": style.MUTED}
        handles.append(Line2D([], [], label=other.label, **line))
    if batches := sorted(set(data.loc[data["batch"] > 1, "batch"])):
        label = f"{', '.join(map(str, batches))} sequences at once"
        handles.append(Line2D([], [], color=style.MUTED, linestyle=_DOTS, label=label))
    if data["speedup"].notna().any():
        handles.append(ideal_entry(data, "ideal by sparsity, predicted"))
        handles.append(Line2D([], [], color=style.INK, linewidth=0.9, label=f"fastest dense kernel (1{words.TIMES})"))
    return handles
