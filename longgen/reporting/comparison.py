"""What `longgen compare` prints: all that was trained, and the full model with its KV cache reduced at inference."""

from __future__ import annotations

import math
from collections.abc import Callable

import pandas as pd

from longgen.reporting.ablation import COLUMNS as ABLATION_COLUMNS
from longgen.reporting.ablation import INTERVAL, READABLE_COLUMNS, ablation_table, readable_table, task_values
from longgen.reporting.families import REDUCTION, families
from longgen.reporting.kv_reductions import REDUCED_BY, pooled_reductions
from longgen.reporting.measures import STAGES, pool_shares
from longgen.reporting.run import Run
from longgen.reporting.words import in_method_order
from longgen.statistics import difference_interval

TRAINED, REDUCED = "trained", "reduced at inference"
COLUMNS = ["variant", "what", "family", "method", "budget_of", *ABLATION_COLUMNS[1:]]


def comparison_table(run: Run) -> pd.DataFrame:
    """The rows of `ablation_table`, then one per method and budget of the KV reductions, as `in_method_order`
    has them.

    Returns:
        The columns `COLUMNS`: ``what`` is `TRAINED` or `REDUCED`, ``family`` a key of `longgen.reporting.families`;
        ``method`` and ``budget_of`` are those of a reduction, whose ``variant`` is full. At the trained length, and
        only what was measured; of a reduction neither perplexity nor speed ever is.

    Raises:
        ArtifactError: plan.json is missing.
    """
    ablation = ablation_table(run)
    own = families(run.plan)
    rows = [{"what": TRAINED, "family": own[row["variant"]]} | row for row in ablation.to_dict("records")]
    return pd.DataFrame([*rows, *_reductions(run)], columns=COLUMNS).astype(
        {"needle_n": "Int64"} | {f"{stage}_speedup_disturbed": "boolean" for stage in STAGES}
    )


def _reductions(run: Run) -> list[dict]:
    if not run.has("kv-reduction"):
        return []
    length, layers = run.plan.trained_length, run.plan.model["num_layers"]
    rows: dict[tuple[str, str], dict] = {}
    scores = (pooled_reductions(run), pool_shares(run.frame("kv-reduction"), REDUCED_BY))
    for record in [row for table in scores for row in table[table["length"] == length].to_dict("records")]:
        key = record["budget_of"], record["method"]
        row = rows.setdefault(
            key,
            {
                "variant": "full",
                "what": REDUCED,
                "family": REDUCTION,
                "method": record["method"],
                "budget_of": record["budget_of"],
                "full_layers": layers,
                "num_layers": layers,
                "placement": "none",
                "pattern": "none",
                "length": length,
                "kv_fraction": record["kv_fraction"],
            },
        )
        row |= task_values(record)
    budgets = {name: index for index, name in enumerate(run.variants)}
    methods = in_method_order(row["method"] for row in rows.values())
    return sorted(rows.values(), key=lambda row: (budgets[row["budget_of"]], methods.index(row["method"])))


SIDES = ("a", "b")
_NUMBERS = [f"{name}{end}" for name in (*SIDES, "difference") for end in INTERVAL]
_FLAGS = [f"{name}_disturbed" for name in SIDES]


def differences(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """What two runs measured, side by side: a row per quantity of every row of two tables of `comparison_table`.

    Returns:
        ``variant``, ``what``, ``method`` and ``budget_of``, by which rows belong together; ``quantity``, a key of
        `READABLE_COLUMNS`; ``a``, ``b`` and ``difference`` (b - a), each with ``_low`` and ``_high``, as
        `difference_interval` has it; ``a_disturbed`` and ``b_disturbed``, missing where it was not recorded. In the
        order of ``first``, then what only ``second`` has. What was not measured is NaN, and a quantity that neither
        measured has no row.
    """
    keys = ["variant", "what", "method", "budget_of"]
    # what is missing as text: it is to be equal
    keys_as_text = [table[keys].astype(object).where(table[keys].notna(), "") for table in (first, second)]
    tables = [table.assign(**names) for table, names in zip((first, second), keys_as_text, strict=True)]
    rows_by_key = [{tuple(row[key] for key in keys): row for row in table.to_dict("records")} for table in tables]
    rows: list[dict[str, object]] = []
    for key in dict.fromkeys([*rows_by_key[0], *rows_by_key[1]]):
        for quantity, (column, _, _) in READABLE_COLUMNS.items():
            a, b = (_with_interval(by_key.get(key, {}), column) for by_key in rows_by_key)
            if not math.isnan(a[0]) or not math.isnan(b[0]):
                numbers = dict(zip(_NUMBERS, (*a, *b, *difference_interval(b, a)), strict=True))
                flags = [by_key.get(key, {}).get(f"{column}_disturbed") for by_key in rows_by_key]
                flags_by_name = dict(zip(_FLAGS, flags, strict=True))
                rows.append({**dict(zip(keys, key, strict=True)), "quantity": quantity, **numbers, **flags_by_name})
    return pd.DataFrame(rows, columns=[*keys, "quantity", *_NUMBERS, *_FLAGS])


def _with_interval(row: dict, column: str) -> tuple[float, float, float]:
    """Value and ends, NaN where there is none."""
    value, low, high = (float(row.get(f"{column}{end}", math.nan)) for end in INTERVAL)
    return value, low, high


def readable_comparison(table: pd.DataFrame, mark: Callable[[str], str]) -> pd.DataFrame:
    """The table as text for readers, as `readable_table` makes it, saying of every row what it is."""
    text_table, is_reduction = readable_table(table, mark), table["what"] == REDUCED
    methods = table["method"].where(is_reduction, "").astype(str)
    text_table["variant"] = table["variant"] + methods.where(~is_reduction, ", " + methods)
    text_table.insert(1, "what", table["what"])
    text_table.insert(2, "budget of", table["budget_of"].where(is_reduction, "").astype(str))
    return text_table
