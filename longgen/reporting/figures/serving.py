"""Figure `serving`: sequences at once, throughput and time to the first token of a serving engine, by length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from longgen.reporting import style, words
from longgen.reporting.disturbed import shown_note, with_disturbed, with_sign
from longgen.reporting.drawing import Drawing
from longgen.reporting.run import Run
from longgen.reporting.serving_speed import serving_rows

COLUMNS = [
    *("shape", "length", "requests", "new_tokens", "kv_memory", "full_layers", "num_layers", "pattern", "running"),
    *("sequences", "sequences_ratio", "tokens_per_second", "speedup"),
    *("first_token", "first_token_low", "first_token_high", "disturbed"),
]
_PANELS = {
    "sequences": "sequences that fit",
    "tokens_per_second": "new tokens per second",
    "first_token": "seconds to the first token",
}
_WIDTH = 0.36  # of a bar; lengths are 1 apart


def draw(run: Run) -> Drawing:
    """A bar for full attention and one for the hybrid at each length. Raises ArtifactError if nothing was measured."""
    data = with_disturbed(serving_rows(run))[COLUMNS].sort_values(["length", "full_layers"], ascending=[True, False])
    data = data.reset_index(drop=True)
    if data.empty:
        raise run.missing("serving-speed")
    memory = words.format_bytes(float(data["kv_memory"].iloc[0]))
    small = [words.device_note(run, "serving-speed"), f"KV cache of {memory}", shown_note(data, "disturbed", _in_words)]
    note = words.SEPARATOR.join(filter(None, small))
    figure = style.new_figure(f"{data['shape'].iloc[0]} in vLLM, in the same memory", note, 2.9)
    is_full = data["full_layers"] == data["num_layers"]
    looks = style.variant_styles(["full", "longgen-sink"])
    parts = [(looks["full"], data[is_full]), (looks["longgen-sink"], data[~is_full])]
    lengths = sorted(set(data["length"]))
    for axes, (column, title) in zip(np.ravel(figure.subplots(1, len(_PANELS))), _PANELS.items(), strict=True):
        for side, (look, rows) in zip((-0.5, 0.5), parts, strict=True):
            _draw_bars(axes, rows, column, look.color, lengths, side)
        axes.set_title(title)
        axes.set_xticks(range(len(lengths)), [_load(data, length) for length in lengths])
        axes.set_xlabel("requests \u00d7 tokens of each")
        axes.grid(axis="y")
        axes.set_ylim(top=1.12 * axes.get_ylim()[1])
    layers = f"{parts[1][1]['full_layers'].iloc[0]:.0f} of {data['num_layers'].iloc[0]:.0f} layers full"
    entries = [Patch(color=looks["full"].color, label="full attention")]
    style.legend_below(figure, [*entries, Patch(color=looks["longgen-sink"].color, label=f"LongGen, {layers}")])
    return Drawing(figure, data)


def _in_words(row: Mapping[Any, Any]) -> str:
    is_full = row["full_layers"] == row["num_layers"]
    return f"{'full attention' if is_full else 'LongGen'} at {words.format_length(row['length'])}"


def _load(data: pd.DataFrame, length: int) -> str:
    requests = data.loc[data["length"] == length, "requests"].iloc[0]
    return f"{requests:.0f} {words.TIMES} {words.format_length(length)}"


def _draw_bars(axes: Axes, rows: pd.DataFrame, column: str, color: str, lengths: list[int], side: float) -> None:
    places = np.array([lengths.index(length) for length in rows["length"]]) + side * _WIDTH
    axes.bar(places, rows[column], _WIDTH, color=color)
    # how many sequences fit is no time: nothing disturbs it
    signs = [False] * len(rows) if column == "sequences" else rows["disturbed"]
    for place, value, sign in zip(places, rows[column], signs, strict=True):
        text = with_sign(f"{value:.3g}", sign)
        axes.annotate(text, (place, value), (0, 2), textcoords="offset points", ha="center", fontsize=6.5)
