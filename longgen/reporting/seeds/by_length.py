"""Figure `seeds_by_length`: tasks by context length, up to the trained one and beyond, and perplexity by position."""

from __future__ import annotations

import math

import pandas as pd

from longgen.errors import ArtifactError
from longgen.reporting import style, words
from longgen.reporting.drawing import Drawing
from longgen.reporting.lines import beside, describe_task, draw_bands, draw_lines, legend_of_variants, spread
from longgen.reporting.positions import log_if_wide
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.values import Values

PERPLEXITY = "perplexity"
_ACROSS = 3  # panels in a row


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


def draw_by_length(group: Group, values: Values) -> Drawing:
    """A panel per task and one of perplexity, a line per variant: means over seeds.

    Raises:
        ArtifactError: no task was asked at any length.
    """
    data = length_data(group, values)
    tasks = [task for task in dict.fromkeys(data["task"]) if task != PERPLEXITY]
    if not tasks:
        raise ArtifactError(f"{group.name}: no retrieval was measured at {values.length} tokens")
    panel_tasks = list(dict.fromkeys(data["task"]))
    lines, looks = math.ceil(len(panel_tasks) / _ACROSS), style.variant_styles(group.variants)
    names = [name for name in group.variants if name in set(data["variant"])]
    shifts = spread(len(names))
    about = [f"{group.name}, {group.seeds}", group.device("retrieval")]
    note = [*about, "tasks pooled over depths", "bars: 95 % intervals", *beside(shifts)]
    figure = style.new_figure(
        "Quality by context length, means over seeds",
        words.SEPARATOR.join(note),
        height=0.75 + 2.15 * lines,
    )
    panels = figure.subplots(lines, min(_ACROSS, len(panel_tasks)), squeeze=False)
    for place, (axes, task) in enumerate(zip(panels.flat, panel_tasks, strict=False)):
        rows = data[data["task"] == task]
        draw_bands(axes, rows["length"] if task != PERPLEXITY else [], shifts)
        for name, shift in zip(names, shifts, strict=True):
            own = rows[rows["variant"] == name]
            if task == PERPLEXITY:
                axes.plot(
                    own["length"], own["value"], color=looks[name].color, marker=looks[name].marker, ms=2.5, lw=1.0
                )
            else:
                draw_lines(axes, own, "length", "value", looks[name], shift)
        style.length_axis(axes, rows["length"].to_numpy() if task != PERPLEXITY else _ends(rows))
        for text, length in (("base", group.plan.base_length), ("trained", group.plan.trained_length)):
            if axes.get_xlim()[0] < length < axes.get_xlim()[1]:
                style.mark_length(axes, length, text)
        if task == PERPLEXITY:
            axes.set_title("perplexity by position, means", pad=style.ABOVE)
            axes.set_xlabel("position in the context (tokens)")
            axes.grid(axis="y")
            log_if_wide(axes, rows["value"])
        else:
            describe_task(axes, task, first=place % _ACROSS == 0)
    for axes in panels.flat[len(panel_tasks) :]:
        axes.remove()
    legend_of_variants(figure, [looks[name] for name in names])
    return Drawing(figure, data)


def _ends(rows: pd.DataFrame) -> list[float]:
    """The last bin's end and its halves, down to the first bin's end."""
    first, last = float(rows["length"].min()), float(rows["length"].max())
    halves = [last / 2**halvings for halvings in range(12)]
    return [end for end in halves if end >= first]
