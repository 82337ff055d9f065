"""Figure `ratio_placement_pattern`: the three ablations of the paper, one row each, what a variant gains and costs."""

from __future__ import annotations

import pandas as pd

from longgen.reporting import style, words
from longgen.reporting.ablation import INTERVAL
from longgen.reporting.comparison import TRAINED, comparison_table
from longgen.reporting.disturbed import shown_note
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
from longgen.reporting.run import Run

COLUMNS = (
    DotColumn("needle_exact", f"needle exact match\n{HIGHER}", ticks=(0, 0.5, 1)),
    DotColumn("perplexity", f"perplexity\n{LOWER}"),
    KV_CACHE,
    DotColumn("prefill_speedup", f"prefill speed-up ({words.TIMES})\n{HIGHER}", around=1),
)
DATA = [
    *("comparison", "variant", "family", "full_layers", "num_layers", "placement", "pattern", "length", "needle_n"),
    *(f"needle_exact{end}" for end in INTERVAL),
    *(f"perplexity{end}" for end in INTERVAL),
    "kv_fraction",
    *(f"prefill_speedup{end}" for end in (*INTERVAL, "_disturbed")),
]


def drawn_rows(run: Run) -> pd.DataFrame:
    """A row per comparison and variant of it, in the order drawn (`comparisons`): the columns `DATA`.

    Where no KV cache was measured, the planned one is in a column of its own (`with_planned_cache`).

    Raises:
        ArtifactError: plan.json is missing, or nothing was measured of any variant.
    """
    table = comparison_table(run)
    table = table[table["what"] == TRAINED]
    if table.empty:
        raise run.missing("retrieval")
    table = with_planned_cache(table, run.plan)
    return comparisons(table)[[*DATA, *(name for name in [KV_CACHE.prediction] if name in table)]]


def draw(run: Run) -> Drawing:
    """Dots with 95 % intervals: a row of panels per comparison, a column per quantity, a line per variant in them."""
    data = drawn_rows(run)
    title = f"What ratio, placement and pattern change, at {words.format_length(run.plan.trained_length)} tokens"
    note = [words.run_note(run, "speed"), "needle pooled over depths", "bars: 95 % intervals"]
    note.append(
        shown_note(data, "prefill_speedup_disturbed", lambda row: f"prefill of {words.variant_label(row['variant'])}")
    )
    small = words.SEPARATOR.join(filter(None, note))
    return Drawing(draw_dot_rows(title, small, data, COLUMNS, style.variant_styles(run.variants)), data)
