"""The tables of benchmarks: scores by task and KV budget, the benchmarks' own averages, and short contexts."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import pandas as pd

from longgen.reporting import task_scores
from longgen.reporting.benchmarks import (
    MODEL,
    SCORE_COLUMNS,
    STAND_IN,
    benchmark_note,
    in_order,
    is_stand_in,
    over_depths,
    with_model,
)
from longgen.reporting.run import Run
from longgen.reporting.words import TO, format_length

Row = Mapping[Hashable, Any]
_INTERVALS = "in parentheses 95 % intervals; an empty cell was not measured."
_KV_CACHE = (
    "KV: bytes of KV cache after the prompt, over those of full attention, as measured; of several lengths or tasks "
    "the least and the most."
)


def benchmark_scores(run: Run) -> tuple[pd.DataFrame, str]:
    """Method x task x KV budget: a row per task, metric, length and model, means over the depths of needles.

    Returns:
        The columns `SCORE_COLUMNS`, scores within 0..1; and Markdown, a column per model, scores in percent.

    Raises:
        ArtifactError: the run has no scores of benchmarks.
    """
    keys = ["benchmark", "task", "metric", "length"]
    table = in_order(with_model(over_depths(run.frame("benchmark")), run.variants), keys)
    lines = [
        "# Benchmarks by task",
        "",
        benchmark_note(run, "benchmark", run.device("benchmark")),
        "",
        f"Means over samples in percent, of needles over all depths; {_INTERVALS} {_KV_CACHE}",
    ]
    for name, part in table.groupby("benchmark", sort=False):
        lines += ["", f"## {name}", "", *_by_model(part, keys[1:], _score, "natural")]
    return table[SCORE_COLUMNS], "\n".join(lines) + "\n"


def benchmark_summary(run: Run) -> tuple[pd.DataFrame, str]:
    """The benchmarks' own averages by length and model.

    Returns:
        The columns of kind ``benchmark-summary`` with the model; and Markdown, a column per model.

    Raises:
        ArtifactError: the run has no summaries of benchmarks.
    """
    keys = ["benchmark", "summary", "length"]
    table = in_order(with_model(run.frame("benchmark-summary"), run.variants), keys)
    lines = [
        "# Benchmarks: their own averages",
        "",
        benchmark_note(run, "benchmark-summary", run.device("benchmark-summary")),
        "",
        f"In percent, or in tokens where it says so; {_INTERVALS} {_KV_CACHE}",
    ]
    for name, part in table.groupby("benchmark", sort=False):
        lines += ["", f"## {name}", "", *_by_model(part, keys[1:], _summary)]
    values = ["n", "value", "value_low", "value_high", "unit"]
    return table[[*keys, "stand_in", *MODEL, "kv_fraction", *values]], "\n".join(lines) + "\n"


def short_context(run: Run) -> tuple[pd.DataFrame, str]:
    """What lm-eval measured on short contexts, by task, metric and variant.

    Returns:
        The columns of kind ``short-context`` with the variant; and Markdown, a column per variant, in percent.

    Raises:
        ArtifactError: the run has no results on short contexts.
    """
    keys = ["task", "metric", "num_fewshot"]
    table = in_order(with_model(run.frame("short-context"), run.variants), keys)
    lines = [
        "# Short contexts, by lm-eval",
        "",
        benchmark_note(run, "short-context", run.device("short-context")),
        "",
        f"Means over samples in percent; {_INTERVALS}",
        "",
        *_by_model(table, keys, _score),
    ]
    return table[[*keys, "stand_in", "variant", "n", "score", "score_low", "score_high"]], "\n".join(lines) + "\n"


def ruler_tasks(run: Run) -> tuple[pd.DataFrame, str]:
    """RULER's tasks by method and length, and their average.

    Returns:
        what `longgen.reporting.task_scores.ruler_scores` does; and Markdown, a table per length, in percent.

    Raises:
        ArtifactError: the run has no scores of RULER.
    """
    rows = task_scores.ruler_scores(run)
    about = [benchmark_note(run, "benchmark", run.device("benchmark"))]
    warning = f"**{STAND_IN.capitalize()}**" if is_stand_in(rows) else ""
    return rows, task_scores.markdown("RULER: method by task", about, rows, warning)


def _by_model(rows: pd.DataFrame, keys: list[str], cell: Callable[[Row], str], no_length: str = "all") -> list[str]:
    """Lines of Markdown: a row per value of ``keys`` and kind of data, a column per model."""
    models = [model for model in rows["model"].cat.categories if (rows["model"] == model).any()]
    headings = {model: model + _kv_cache(rows[rows["model"] == model]) for model in models}
    table = []
    for (*values, _), part in rows.groupby([*keys, "stand_in"], sort=False, dropna=False):
        row = {
            _HEADINGS.get(key, key): _key_text(key, value, no_length) for key, value in zip(keys, values, strict=True)
        }
        row |= {"data": "stand-in" if is_stand_in(part) else "the benchmark's", "n": _range(part["n"])}
        table.append(row | dict.fromkeys(headings.values(), ""))
        table[-1] |= {headings[record["model"]]: cell(record) for record in part.to_dict("records")}
    words = [f"**{STAND_IN.capitalize()}**, where a row says so.", ""] if is_stand_in(rows) else []
    return [*words, pd.DataFrame(table).to_markdown(index=False, disable_numparse=True)]


_HEADINGS = {"num_fewshot": "examples"}


def _key_text(key: str, value: Any, no_length: str) -> str:
    if key == "length":
        return no_length if pd.isna(value) else format_length(value)
    return f"{value:g}" if key == "num_fewshot" else str(value)


def _range(column: pd.Series, style: str = ",.0f") -> str:
    """The least and the most, or one number if they read alike."""
    low, high = (format(value, style) for value in (column.min(), column.max()))
    return low if low == high else f"{low}{TO}{high}"


def _kv_cache(rows: pd.DataFrame) -> str:
    if "kv_fraction" not in rows or rows["kv_fraction"].isna().all():
        return ""
    return f", KV {_range(100 * rows['kv_fraction'], '.1f')} %"


def _score(row: Row) -> str:
    return _percent(100 * row["score"], 100 * row["score_low"], 100 * row["score_high"])


def _summary(row: Row) -> str:
    if row["unit"] == "tokens":
        return "none" if pd.isna(row["value"]) else f"{format_length(row['value'])} tokens"
    return _percent(row["value"], row["value_low"], row["value_high"])


def _percent(value: float, low: float, high: float) -> str:
    interval = "" if pd.isna(low) or pd.isna(high) else f" ({low:.1f}{TO}{high:.1f})"
    return f"{value:.1f}{interval}"
