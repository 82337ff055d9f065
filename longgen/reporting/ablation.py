"""Table `ablation`: one row per variant, quality and cost side by side, only what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from longgen.reporting.disturbed import rule_lines, speedup_disturbed, with_sign
from longgen.reporting.measures import STAGES, own_perplexity, pool_shares, retrieval_by_length
from longgen.reporting.paired import DIFFERENCE, OVER_FULL, with_difference
from longgen.reporting.run import Run
from longgen.reporting.words import format_length, interval

# task -> its column: exact match, or the share of an answer's parts that was given
TASK_COLUMNS = {
    "needle": "needle_exact",
    "multikey": "multikey_exact",
    "variable-tracking": "variable_tracking_exact",
    "multivalue": "multivalue_share",
    "common-words": "common_words_share",
}
INTERVAL = ("", "_low", "_high")
COLUMNS = [
    *("variant", "full_layers", "num_layers", "placement", "pattern", "length", "kv_fraction"),
    *("needle_exact", "needle_exact_low", "needle_exact_high", "needle_n"),
    *(f"{column}{end}" for task, column in TASK_COLUMNS.items() if task != "needle" for end in INTERVAL),
    *("perplexity", "perplexity_low", "perplexity_high"),
    *DIFFERENCE,
    *(f"{stage}_speedup{end}" for stage in STAGES for end in (*INTERVAL, "_disturbed")),
]


def ablation_table(run: Run) -> pd.DataFrame:
    """One row per variant of which anything was measured, in the order of the plan.

    Everything is taken at the trained length, in column ``length``: retrieval pooled over depths with the Wilson
    interval of the pooled counts, perplexity of the last bin of positions within it, its difference to full attention's
    where it is known of the same documents, speed-ups over full attention and the share of its KV cache. What was not
    measured there is missing; no prediction takes its place.

    Returns:
        The columns `COLUMNS`; ``placement`` is "none" where all layers are alike.

    Raises:
        ArtifactError: plan.json is missing.
    """
    length = run.plan.trained_length
    rows: dict[str, dict] = {}
    for name, variant in run.plan.variants.items():
        layout = variant.layout
        rows[name] = {
            "variant": name,
            "full_layers": layout.num_full,
            "num_layers": layout.num_layers,
            "placement": variant.placement if layout.num_full and layout.num_sparse else "none",
            "pattern": variant.pattern_name if layout.num_sparse else "none",
            "length": length,
        }
    measured_variants: set[str] = set()
    for values in (*_retrieval(run, length), *_perplexity(run, length), *_costs(run, length)):
        if values["variant"] in rows:
            rows[values["variant"]] |= values
            measured_variants.add(values["variant"])
    return pd.DataFrame([row for name, row in rows.items() if name in measured_variants], columns=COLUMNS).astype(
        {"needle_n": "Int64"} | {f"{stage}_speedup_disturbed": "boolean" for stage in STAGES}
    )


def _retrieval(run: Run, length: int) -> list[dict]:
    if not run.has("retrieval"):
        return []
    values = []
    for scores in (retrieval_by_length(run), pool_shares(run.frame("retrieval"), ["variant", "task", "length"])):
        rows = scores[scores["length"] == length].to_dict("records")
        values += [{"variant": row["variant"]} | task_values(row) for row in rows]
    return values


def task_values(row: dict) -> dict:
    """The columns of the table that a row of `pool` or `pool_shares` fills: none if it is not the score of its task."""
    column = TASK_COLUMNS.get(row["task"], "")
    score = column.rpartition("_")[2]
    if score not in row or not column:
        return {}
    values = {f"{column}{end}": row[f"{score}{end}"] for end in INTERVAL}
    return values | ({"needle_n": row["n"]} if row["task"] == "needle" else {})


def _perplexity(run: Run, length: int) -> list[dict]:
    bins = own_perplexity(run)
    if bins.empty:
        return []
    within = bins[bins["position_end"] <= length]
    last = with_difference(run, within[within["position_end"] == within["position_end"].max()])
    # full attention itself, whose difference is 0, beside others: as its speed-up is 1
    has_interval = last[f"{OVER_FULL}_low"].notna()
    comparable_variants = set(last["variant"][has_interval]) | ({"full"} if has_interval.any() else set())
    return [
        {
            "variant": row["variant"],
            **({name: row[name] for name in DIFFERENCE} if row["variant"] in comparable_variants else {}),
            "perplexity": row["perplexity"],
            "perplexity_low": math.exp(row["nll_low"]),
            "perplexity_high": math.exp(row["nll_high"]),
        }
        for row in last.to_dict("records")
    ]


def _costs(run: Run, length: int) -> list[dict]:
    costs: list[dict] = []
    if run.has("memory"):
        memory = run.frame("memory")
        costs.extend(memory.loc[memory["length"] == length, ["variant", "kv_fraction"]].to_dict("records"))
    if run.has("speed"):
        speed = run.frame("speed")
        for row in speed[(speed["length"] == length) & speed["stage"].isin(STAGES)].to_dict("records"):
            values = {f"{row['stage']}_speedup{end}": row[f"speedup{end}"] for end in INTERVAL}
            values[f"{row['stage']}_speedup_disturbed"] = speedup_disturbed(row)
            costs.append({"variant": row["variant"], **values})
    return costs


# For readers: heading -> (column, format, whether more is better).
READABLE_COLUMNS: dict[str, tuple[str, str, bool]] = {
    "KV cache": ("kv_fraction", ".1%", False),
    "needle": ("needle_exact", ".2f", True),
    "multi-key": ("multikey_exact", ".2f", True),
    "variable tracking": ("variable_tracking_exact", ".2f", True),
    "multi-value": ("multivalue_share", ".2f", True),
    "common words": ("common_words_share", ".2f", True),
    "perplexity": ("perplexity", ".2f", False),
    "perplexity over full": (OVER_FULL, "+.1%", False),
    "training": ("training_speedup", ".2f", True),
    "prefill": ("prefill_speedup", ".2f", True),
    "decode": ("decode_speedup", ".2f", True),
}


def readable_cell(row: dict, column: str, number_format: str) -> str:
    """A value, marked if it is disturbed, in parentheses its interval where it has one; empty if not measured."""
    value = row[column]
    if pd.isna(value):
        return ""
    text = with_sign(format(value, number_format), row.get(f"{column}_disturbed"))
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    if low is None or high is None or pd.isna(low) or low == high:
        return text
    return f"{text} ({interval(format(low, number_format), format(high, number_format))})"


def best_values(table: pd.DataFrame) -> dict[str, float]:
    """The best measured value of each readable column."""
    best = {}
    for column, _, more_is_better in READABLE_COLUMNS.values():
        values = table[column].dropna()
        if len(values):
            best[column] = float(values.max() if more_is_better else values.min())
    return best


def describe_layers(row: dict) -> str:
    """Layout and pattern in words, such as ``4/12 middle, sink``."""
    parts = [f"{row['full_layers']:.3g}/{row['num_layers']}"]
    parts += [row["placement"]] if row["placement"] != "none" else []
    return " ".join(parts) + (f", {row['pattern']}" if row["pattern"] != "none" else "")


def readable_table(table: pd.DataFrame, mark: Callable[[str], str] = "**{}**".format) -> pd.DataFrame:
    """The table as text for readers: intervals beside values, the best of a column, ties too, as ``mark`` makes it.

    Tasks that no variant was asked have no column, nor has a difference of perplexity that is known of none.
    """
    best = best_values(table)
    columns = {
        heading: column
        for heading, column in READABLE_COLUMNS.items()
        if column[0] not in (*TASK_COLUMNS.values(), OVER_FULL) or table[column[0]].notna().any()
    }
    rows = []
    for row in table.to_dict("records"):
        cells = {"variant": row["variant"], "full layers": describe_layers(row)}
        for heading, (column, number_format, _) in columns.items():
            text = readable_cell(row, column, number_format)
            # as it is written: what reads alike is marked alike
            is_best = text and format(row[column], number_format) == format(best[column], number_format)
            cells[heading] = mark(text) if is_best and len(table) > 1 else text
        rows.append(cells)
    # as objects: a column of text would forget what ``mark`` made of it
    return pd.DataFrame(rows, columns=["variant", "full layers", *columns], dtype=object)


def ablation_markdown(run: Run, table: pd.DataFrame) -> str:
    """The table as Markdown, with what its columns mean."""
    length = run.plan.trained_length
    samples = sorted(set(table["needle_n"].dropna()))
    text_table = readable_table(table)
    several = {"multi-value", "common words"} & set(text_table.columns)
    differences = table[OVER_FULL].notna().any()
    lines = [
        f"# Ablation: run {run.name}, model {run.model_name}, at {format_length(length)} tokens",
        "",
        text_table.to_markdown(index=False, disable_numparse=True),
        "",
        "All values are measured, at the trained length; an empty cell was not measured. "
        "In parentheses: 95 % interval. Bold: best of the column, with ties as written.",
        "",
        "- full layers: layers' worth of full attention / all layers, where it is, and the pattern of the rest.",
        "- KV cache: bytes over those of full attention.",
        "- needle, multi-key, variable tracking: exact match"
        + (f"; needle pooled over depths, n = {', '.join(map(str, samples))}." if samples else "."),
        *(["- multi-value, common words: share of the answer's parts that was given."] * bool(several)),
        "- perplexity: held-out text, last bin of positions.",
        *(["- perplexity over full: its difference to full attention's, paired by document."] * bool(differences)),
        "- training, prefill, decode: speed-up over full attention in the same process"
        + (f", on {run.device('speed')}." if run.has("speed") else "."),
        *rule_lines(any(table[f"{stage}_speedup_disturbed"].any() for stage in STAGES)),
    ]
    return "\n".join(lines) + "\n"


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The table as it is written: as CSV, and as Markdown. Raises ArtifactError: the run lacks its results."""
    table = ablation_table(run)
    if table.empty:
        raise run.missing("retrieval")
    return table, ablation_markdown(run, table)
