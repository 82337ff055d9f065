"""Figure `serving`: sequences at once, throughput and time to the first token of a serving engine, by length."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import Run
from longgen.reporting.serving_speed import serving_rows

COLUMNS = [
    *("shape", "length", "requests", "new_tokens", "kv_memory", "full_layers", "num_layers", "pattern", "running"),
    *("sequences", "sequences_ratio", "tokens_per_second", "speedup"),
    *("first_token", "first_token_low", "first_token_high"),
]
_PANELS = {
    "sequences": "sequences that fit",
    "tokens_per_second": "new tokens per second",
    "first_token": "seconds to the first token",
}
_WIDTH = 0.36  # of a bar; lengths are 1 apart


def draw(run: Run) -> Drawing:
    """A bar for full attention and one for the hybrid at each length. Raises ArtifactError if nothing was measured."""
    data = serving_rows(run)[COLUMNS].sort_values(["length", "full_layers"], ascending=[True, False])
    data = data.reset_index(drop=True)
    if data.empty:
        raise run.missing("serving-speed")
    memory = words.format_bytes(float(data["kv_memory"].iloc[0]))
    note = f"{words.device_note(run, 'serving-speed')}{words.SEPARATOR}KV cache of {memory}"
    figure = style.new_figure(f"{data['shape'].iloc[0]} in vLLM, in the same memory", note, 2.7)
    is_full = data["full_layers"] == data["num_layers"]
    looks = style.variant_styles(["full", "longgen-sink"])
    parts = [(looks["full"], data[is_full]), (looks["longgen-sink"], data[~is_full])]
    lengths = sorted(set(data["length"]))
    for axes, (column, title) in zip(np.ravel(figure.subplots(1, len(_PANELS))), _PANELS.items(), strict=True):
        for side, (look, rows) in zip((-0.5, 0.5), parts, strict=True):
            _draw_bars(axes, rows, column, look.color, lengths, side)
        axes.set_title(title)
        axes.set_xticks(range(len(lengths)), [_load(data, length) for length in lengths])
        axes.grid(axis="y")
        axes.set_ylim(top=1.12 * axes.get_ylim()[1])
    layers = f"{parts[1][1]['full_layers'].iloc[0]:.0f} of {data['num_layers'].iloc[0]:.0f} layers full"
    entries = [Patch(color=looks["full"].color, label="full attention")]
    style.legend_below(figure, [*entries, Patch(color=looks["longgen-sink"].color, label=f"LongGen, {layers}")])
    return Drawing(figure, data)


def _load(data: pd.DataFrame, length: int) -> str:
    requests = data.loc[data["length"] == length, "requests"].iloc[0]
    return f"{requests:.0f} {words.TIMES} {words.format_length(length)}"


def _draw_bars(axes: Axes, rows: pd.DataFrame, column: str, color: str, lengths: list[int], side: float) -> None:
    places = np.array([lengths.index(length) for length in rows["length"]]) + side * _WIDTH
    axes.bar(places, rows[column], _WIDTH, color=color)
    for place, value in zip(places, rows[column], strict=True):
        axes.annotate(f"{value:.3g}", (place, value), (0, 2), textcoords="offset points", ha="center", fontsize=6.5)
