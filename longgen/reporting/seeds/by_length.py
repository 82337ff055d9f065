"""Figure `seeds_by_length`: tasks by context length, up to the trained one and beyond, and perplexity by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from longgen.errors import ArtifactError
from longgen.reporting import style
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import marks_apart
from longgen.reporting.positions import log_if_wide
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.values import Values
from longgen.reporting.task_panels import draw_tasks

PERPLEXITY = "perplexity"


def length_data(group: Group, values: Values) -> pd.DataFrame:
    """A row per task, variant and length, then one per variant and bin of positions with ``task`` perplexity.

    Returns:
        ``task, variant, length`` (of perplexity the end of the bin), ``value`` with its interval over seeds and
        samples, ``seeds``, ``n`` (answers of all seeds; missing of perplexity).
    """
    rows = []
    for task in values.tasks:
        for variant in group.variants:
            for length in sorted({at for name, at in values.by_length if name == variant}):
                rows.append((task, variant, length, values.share(variant, [task], length)))
    for variant in group.variants:
        for name, end in sorted(values.positions):
            if name == variant:
                rows.append((PERPLEXITY, variant, end, values.perplexity_before(variant, end)))
    columns = ["task", "variant", "length", "value", "value_low", "value_high", "seeds", "n"]
    cells = [
        (task, variant, length, estimate.value, estimate.low, estimate.high, estimate.seeds, estimate.n)
        for task, variant, length, estimate in rows
        if estimate
    ]
    return pd.DataFrame(cells, columns=columns).astype({"n": "Int64"})


def draw(group: Group, values: Values) -> Drawing:
    """A panel per task and one of perplexity, a line per variant: means over seeds.

    Raises:
        ArtifactError: no task was asked at any length.
    """
    data = length_data(group, values)
    tasks = [task for task in dict.fromkeys(data["task"]) if task != PERPLEXITY]
    if not tasks:
        raise ArtifactError(f"{group.name}: no retrieval was measured at {values.length} tokens")
    looks = style.variant_styles(group.variants)
    perplexity = data[data["task"] == PERPLEXITY]

    def draw_perplexity(axes: Axes, names: Sequence[str]) -> None:
        for name in names:
            own = perplexity[perplexity["variant"] == name]
            line: dict[str, Any] = {"color": looks[name].color, "marker": looks[name].marker, "ms": 3.2, "lw": 0.9}
            line["markevery"] = marks_apart(len(own), names.index(name), len(names))
            axes.plot(own["length"], own["value"], **line)
        axes.set_title("perplexity by position, means")
        axes.set_ylabel("perplexity")
        style.length_axis(axes, _ends(perplexity), "position in the context (tokens)")
        for length in group.plan.marked_lengths.values():
            if axes.get_xlim()[0] < length < axes.get_xlim()[1]:
                style.mark_length(axes, length, "")
        axes.grid(axis="y")
        log_if_wide(axes, perplexity["value"])

    note = [f"{group.name}, {group.seeds}", group.device("retrieval"), "tasks pooled over depths"]
    figure = draw_tasks(
        "Quality by context length, means over seeds",
        note,
        data[data["task"] != PERPLEXITY],
        group.plan,
        group.variants,
        draw_perplexity if len(perplexity) else None,
    )
    return Drawing(figure, data)


def _ends(rows: pd.DataFrame) -> list[float]:
    """The last bin's end and its halves, down to the first bin's end."""
    first, last = float(rows["length"].min()), float(rows["length"].max())
    halves = [last / 2**halvings for halvings in range(12)]
    return [end for end in halves if end >= first]
