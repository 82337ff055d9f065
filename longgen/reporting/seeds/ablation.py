"""Figure `seeds_ablation`: what ratio, placement and pattern change, over the seeds of a group."""

from __future__ import annotations

import pandas as pd

from longgen.reporting import style, words
from longgen.reporting.ablation import INTERVAL
from longgen.reporting.dot_rows import (
    HIGHER,
    KV_CACHE,
    LOWER,
    DotColumn,
    comparisons,
    draw_dot_rows,
    with_planned_cache,
)
from longgen.reporting.drawing import Drawing
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.table import quantities, seeds_table
from longgen.reporting.seeds.values import TASKS, Values

_ABOUT = ["comparison", "variant", "family", "full_layers", "num_layers", "placement", "pattern", "length", "seed"]


def _columns(table: pd.DataFrame) -> list[DotColumn]:
    ticks = (0.0, 0.5, 1.0)
    return [
        DotColumn("needle_exact", f"needle exact match\n{HIGHER}", ticks=ticks),
        *([DotColumn(TASKS, f"mean of all tasks\n{HIGHER}", ticks=ticks)] if TASKS in table else []),
        DotColumn("perplexity", f"perplexity\n{LOWER}"),
        KV_CACHE,
    ]


def draw(group: Group, values: Values) -> Drawing:
    """Dots as in `ratio_placement_pattern`: means over seeds with their intervals, below them the seeds themselves.

    Raises:
        ArtifactError: nothing was measured of any variant.
    """
    table = seeds_table(group, values)
    if table.empty:
        raise next(iter(group.runs.values())).missing("retrieval")
    columns = [column for column in _columns(table) if column.name in table]
    names = [column.name for column in columns]
    table = with_planned_cache(table, group.plan)
    means, seeds = comparisons(table), _by_seed(values, list(table["variant"]), names)
    note = f"{group.note} · means over seeds · tasks pooled over depths · bars: 95 % intervals"
    title = f"What ratio, placement and pattern change, at {words.format_length(values.length)} tokens"
    figure = draw_dot_rows(title, note, means, columns, style.variant_styles(group.variants), seeds)
    about = table[["variant", "family", "full_layers", "num_layers", "placement", "pattern", "length"]]
    rows = means.assign(seed=None)
    rows = pd.concat([rows, seeds.merge(about)], ignore_index=True).astype({"seed": "Int64"})
    prediction_columns = [name for name in [KV_CACHE.prediction] if name in table]
    return Drawing(
        figure, rows[[*_ABOUT, *(f"{name}{end}" for name in names for end in INTERVAL), *prediction_columns]]
    )


def _by_seed(values: Values, variants: list[str], names: list[str]) -> pd.DataFrame:
    """A row per variant and seed, with a column per quantity."""
    columns = [column for column in quantities(values) if column.name in names]
    rows: dict[tuple[str, int], dict] = {}
    for variant in variants:
        for column in columns:
            estimate = column.estimate(values, variant)
            for seed, value in estimate.by_seed.items() if estimate else ():
                row = rows.setdefault((variant, seed), {"variant": variant, "seed": seed})
                row[column.name] = value
    return pd.DataFrame(list(rows.values()), columns=["variant", "seed", *names])
