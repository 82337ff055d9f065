"""What tables and figures of benchmarks have in common: models, means over depths, and the word on stand-in data."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from longgen.evaluation.benchmarks import BENCHMARKS, benchmark
from longgen.names import NONE
from longgen.reporting.run import Run
from longgen.reporting.words import SEPARATOR, in_method_order, variant_label
from longgen.statistics import wilson_interval

STAND_IN = "stand-in data: no scores of the benchmark"
# Together they say which model answered: a variant, and how its KV cache was reduced at inference.
MODEL = ["variant", "method", "budget_of"]
SCORE_COLUMNS = [
    *("benchmark", "task", "metric", "length", "stand_in", *MODEL, "kv_fraction"),
    *("n", "score", "score_low", "score_high"),
]


def model_label(variant: str, method: str = NONE, budget_of: str = NONE) -> str:
    """A model for readers: a variant's label, or "full, reduced: snapkv (bytes of longgen-sink)"."""
    if method == NONE:
        return variant_label(variant)
    return f"{variant}, reduced: {method}" + (f" (bytes of {budget_of})" if budget_of != NONE else "")


def with_model(rows: pd.DataFrame, variants: Sequence[str] = ()) -> pd.DataFrame:
    """``rows`` with a categorical column ``model`` of labels in their order: those with a reduced cache are last.

    Those are by budget in the order of ``variants``, and then as `in_method_order` has the methods. A column ``length``
    becomes whole numbers.
    """
    if "method" not in rows:
        rows = rows.assign(method=NONE, budget_of=NONE)
    if "length" in rows:
        rows = rows.astype({"length": "Int64" if rows["length"].isna().any() else "int64"})
    labels = [model_label(*key) for key in zip(*(rows[column] for column in MODEL), strict=True)]
    budgets = dict.fromkeys([NONE, *variants, *sorted(set(rows["budget_of"]))])
    methods = [NONE, *in_method_order(set(rows["method"]) - {NONE})]
    ranks = pd.DataFrame(
        {"budget_of": rows["budget_of"].map(list(budgets).index), "method": rows["method"].map(methods.index)}
    )
    ranks = ranks.assign(reduced=rows["method"] != NONE).sort_values(["reduced", "budget_of", "method"], kind="stable")
    rows = rows.assign(model=labels).loc[ranks.index]
    return rows.assign(model=pd.Categorical(rows["model"], rows["model"].unique())).reset_index(drop=True)


def short_labels(rows: pd.DataFrame) -> tuple[dict[str, str], str]:
    """Labels for figures, by the ``model`` of `with_model`, and what the small print says of reduced caches, if any."""
    labels = dict(zip(rows["model"], rows["variant"].map(variant_label), strict=True))
    reductions = rows[rows["method"] != NONE].drop_duplicates("model")
    budgets = sorted(set(reductions["budget_of"]) - {NONE})
    for row in reductions.to_dict("records"):
        labels[row["model"]] = f"reduced: {row['method']}" + (f", {row['budget_of']}" if len(budgets) > 1 else "")
    target = budgets[0] if len(budgets) == 1 else "the variant named"
    return labels, f"reduced: full, to the bytes of {target}" if budgets else ""


def in_order(rows: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Rows of `with_model` sorted by ``keys``, and then by model.

    Benchmarks and their tasks stand in their own order, other text as it first occurs; numbers rise, null is last.
    """
    ranks = pd.DataFrame({key: _ranks(rows[key]) for key in keys} | {"model": rows["model"].cat.codes})
    return rows.loc[ranks.sort_values([*keys, "model"], kind="stable").index].reset_index(drop=True)


def _ranks(column: pd.Series) -> pd.Series:
    if pd.api.types.is_numeric_dtype(column):
        return column
    usual_order: Sequence[str] = ()
    if column.name == "benchmark":
        usual_order = list(BENCHMARKS)
    elif column.name == "task":
        usual_order = [task for name in BENCHMARKS for task in benchmark(name).tasks]
    order = dict.fromkeys([*usual_order, *column])
    return column.map({value: rank for rank, value in enumerate(order)})


def over_depths(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over depths (of needles; other tasks have none), cells weighted by their samples.

    The interval of ``exact``, whose samples are right or wrong, is Wilson's of all samples. For other metrics the
    distances to the ends of the cells' intervals are added as standard errors of independent means are (Zou and Donner,
    "Construction of confidence limits about effect measures", 2008), so that a single cell keeps its interval.

    Args:
        rows: records of kind ``benchmark``.

    Returns:
        The columns `SCORE_COLUMNS`; ``kv_fraction`` is NaN where that of a cell is.
    """
    keys = SCORE_COLUMNS[:8]
    means = []
    for key, cells in rows.groupby(keys, sort=False, dropna=False):
        identity, n = dict(zip(keys, key, strict=True)), int(cells["n"].sum())
        weights = cells["n"] / n
        score = float((weights * cells["score"]).sum())
        if identity["metric"] == "exact":
            low, high = wilson_interval(round(score * n), n)
        else:
            below, above = cells["score"] - cells["score_low"], cells["score_high"] - cells["score"]
            low = max(0.0, score - math.hypot(*(weights * below)))
            high = min(1.0, score + math.hypot(*(weights * above)))
        fraction = float((weights * cells["kv_fraction"]).sum(skipna=False))
        means.append(identity | {"kv_fraction": fraction, "n": n, "score": score, "score_low": low, "score_high": high})
    return pd.DataFrame(means, columns=SCORE_COLUMNS)


def is_stand_in(rows: pd.DataFrame) -> bool:
    """Whether any of ``rows`` is of stand-in data, or does not say that it is not."""
    return bool(rows["stand_in"].fillna(True).any())


def with_stand_in_note(title: str, rows: pd.DataFrame) -> str:
    """``title``, and that its data are stand-ins if they are."""
    return f"{title} ({STAND_IN})" if is_stand_in(rows) else title


def benchmark_note(run: Run, kind: str, *parts: str) -> str:
    """The small print: run, model if a plan names one, day of ``kind``, and those ``parts`` that are not empty."""
    model = f"model {run.model_name}" if run.has("plan") else ""
    return SEPARATOR.join(filter(None, [f"run {run.name}", model, run.days(kind), *parts]))
