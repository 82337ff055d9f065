"""Method x task, as RULER has its table: the tasks' scores and their average, of hybrids and of reduced KV caches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from longgen.errors import ArtifactError
from longgen.names import NONE
from longgen.reporting import style, words
from longgen.reporting.benchmarks import SCORE_COLUMNS, in_order, over_depths, with_model
from longgen.reporting.heat_maps import best_of_columns, draw_grid
from longgen.reporting.kv_reductions import REDUCED_BY
from longgen.reporting.measures import SEVERAL_PARTS, TASK_TITLES, pool, pool_shares, task_order
from longgen.reporting.run import Run

AVERAGE = "average"
MODEL = ["variant", "method", "budget_of"]
COLUMNS = ["length", *MODEL, "kv_fraction", "task", "n", "score", "score_low", "score_high"]
_ROW_HEIGHT = 0.19  # inches


def experiment_scores(run: Run) -> pd.DataFrame:
    """Of an experiment at the trained length: exact match, or the share of the answer's parts, pooled over depths.

    Returns:
        the columns `COLUMNS`, scores within 0..1: variants in the order of the plan, then the KV reductions by budget,
        each with a row per task and a last one, `AVERAGE`, where it was asked all tasks of the table.

    Raises:
        ArtifactError: nothing was asked at the trained length.
    """
    length = run.plan.trained_length
    parts = []
    if run.has("retrieval"):
        retrieval = _score_rows(run.frame("retrieval"), ["variant", "task", "length"]).assign(
            method=NONE, budget_of=NONE
        )
        parts.append(retrieval.merge(_cache(run), how="left", on=["variant", "length"]))
    if run.has("kv-reduction"):
        parts.append(_score_rows(run.frame("kv-reduction"), REDUCED_BY).assign(variant="full"))
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["length"])
    rows = rows[rows["length"] == length]
    if rows.empty:
        raise ArtifactError(f"{run.missing('retrieval')} (it holds nothing at {length} tokens)")
    variants = {name: place for place, name in enumerate(run.variants)}
    places = {NONE: -1} | variants
    methods = words.in_method_order(set(rows["method"]) - {NONE})
    tasks = {task: place for place, task in enumerate(task_order(rows))}
    ranks = pd.DataFrame(
        {
            "budget": rows["budget_of"].map(places),
            "method": rows["method"].map({name: place for place, name in enumerate([NONE, *methods])}),
            "variant": rows["variant"].map(variants),
            "task": rows["task"].map(tasks),
        }
    )
    order = ranks.sort_values(["budget", "method", "variant", "task"], kind="stable").index
    return _with_average(rows.loc[order][COLUMNS])


def ruler_scores(run: Run) -> pd.DataFrame:
    """Of RULER at every length, as `experiment_scores` has them, with a column ``stand_in``.

    Raises:
        ArtifactError: the run has no scores of RULER.
    """
    rows = run.frame("benchmark")
    rows = over_depths(rows[(rows["benchmark"] == "ruler") & (rows["metric"] == "score")])
    if rows.empty:
        raise ArtifactError(f"{run.missing('benchmark')} (it holds nothing of RULER)")
    rows = in_order(with_model(rows[SCORE_COLUMNS], run.variants), ["length", "task"])
    models = rows["model"].cat.codes
    rows = rows.assign(rank=models).sort_values(["length", "rank"], kind="stable")
    return _with_average(rows[[*COLUMNS, "stand_in"]])


def _score_rows(records: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The score of each task: its share where answers have several parts, else exact match."""
    parts = []
    for scores, name in ((pool(records, by), "exact"), (pool_shares(records, by), "share")):
        of_kind = scores[scores["task"].isin(SEVERAL_PARTS) == (name == "share")]
        parts.append(of_kind.rename(columns={f"{name}{end}": f"score{end}" for end in ("", "_low", "_high")}))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _cache(run: Run) -> pd.DataFrame:
    columns = ["variant", "length", "kv_fraction"]
    return run.frame("memory")[columns] if run.has("memory") else pd.DataFrame(columns=columns)


def _with_average(rows: pd.DataFrame) -> pd.DataFrame:
    """With a row `AVERAGE` after the tasks of each model that was asked all of a length; no interval is known of it."""
    parts = []
    for (length, *_), own in rows.groupby(["length", *MODEL], sort=False, dropna=False):
        tasks = set(rows.loc[rows["length"] == length, "task"])
        parts.append(own)
        if len(tasks) > 1 and tasks == set(own["task"]):
            mean = own.iloc[:1].assign(task=AVERAGE, n=own["n"].sum(), score=own["score"].mean())
            parts.append(mean.assign(score_low=np.nan, score_high=np.nan))
    return pd.concat(parts, ignore_index=True)


def model_label(row: dict) -> str:
    """Such as "LongGen (sink)", or "SnapKV, bytes of LongGen (sink)"."""
    if row["method"] == NONE:
        return words.variant_label(row["variant"])
    budget = "" if row["budget_of"] == NONE else f", bytes of {words.variant_label(row['budget_of'])}"
    return f"{words.method_label(row['method'])}{budget}"


def readable_scores(rows: pd.DataFrame, mark: str = "**{}**") -> pd.DataFrame:
    """The table of one length as text, in percent: a row per model, the best of a column, ties too, by ``mark``."""
    best = rows.groupby("task")["score"].max()
    table: dict[tuple, dict[str, str]] = {}
    for row in rows.to_dict("records"):
        key = tuple(row[name] for name in MODEL)
        kv_fraction = row["kv_fraction"]
        start = {"method": model_label(row), "KV cache": "" if pd.isna(kv_fraction) else f"{100 * kv_fraction:.0f} %"}
        text = f"{100 * row['score']:.1f}"
        cells = table.setdefault(key, start)
        cells[_title(row["task"])] = mark.format(text) if text == f"{100 * best[row['task']]:.1f}" else text
    tasks = [task for task in dict.fromkeys(rows["task"]) if task != AVERAGE]
    columns = ["method", "KV cache", *map(_title, tasks), *([_title(AVERAGE)] if AVERAGE in best else [])]
    return pd.DataFrame(list(table.values()), columns=columns).fillna("")


def _title(task: str) -> str:
    return TASK_TITLES.get(task, task)


def markdown(title: str, about: Sequence[str], rows: pd.DataFrame, warning: str = "") -> str:
    """The tables of all lengths as Markdown, each with a ``warning`` above it, if there is one."""
    lines = [f"# {title}", "", *about]
    for length, own in rows.groupby("length", sort=False):
        counts = sorted({int(n) for n in own.loc[own["task"] != AVERAGE, "n"]})
        lines += ["", f"## {words.format_length(float(str(length)))} tokens", "", *([warning, ""] if warning else [])]
        lines += [readable_scores(own).to_markdown(index=False, disable_numparse=True), ""]
        lines.append(f"n = {', '.join(map(str, counts))} samples of a task.")
    lines += [
        "",
        "All values are measured, in percent; an empty cell was not asked. Bold: best of the column, with ties as "
        "written, even where intervals overlap. The average is over the tasks, each with the same weight, of who was "
        "asked all of them.",
    ]
    return "\n".join(lines) + "\n"


def draw_scores(title: str, note: str, rows: pd.DataFrame) -> Figure:
    """The table of one length as a heat map: a row per model, a column per task and their average; the best bold."""
    models = list(dict.fromkeys(zip(*(rows[name] for name in MODEL), strict=True)))
    tasks = [task for task in dict.fromkeys(rows["task"]) if task != AVERAGE]
    tasks += [AVERAGE] if AVERAGE in set(rows["task"]) else []
    matrix = np.full((len(models), len(tasks)), np.nan)
    first: dict[tuple, dict] = {}
    for row in rows.to_dict("records"):
        key = tuple(row[name] for name in MODEL)
        matrix[models.index(key), tasks.index(row["task"])] = row["score"]
        first.setdefault(key, row)
    if np.isnan(matrix).any():
        note += f"{words.SEPARATOR}grey: not asked"
    figure = style.new_figure(title, note, height=1.25 + _ROW_HEIGHT * len(models))
    axes = figure.subplots()
    mesh = draw_grid(axes, matrix, with_values=True, bold=best_of_columns(matrix))
    axes.set_yticks(range(len(models)), [_with_cache(first[key]) for key in models])
    axes.set_xticks(range(len(tasks)), [_column_title(task) for task in tasks])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if AVERAGE in tasks:
        axes.axvline(len(tasks) - 1.5, color="white", linewidth=4)
    is_reduction = [method != NONE for _, method, _ in models]
    if any(is_reduction) and not all(is_reduction):
        axes.axhline(is_reduction.index(True) - 0.5, color="white", linewidth=4)
    figure.colorbar(mesh, ax=axes, label="score", aspect=20, fraction=0.04, pad=0.01)
    return figure


def _column_title(task: str) -> str:
    """Within a column's width: names of tasks end a line at an underscore as well."""
    return words.wrap(_title(task).replace("_", "_ "), 11).replace("_ ", "_")


def _with_cache(row: dict) -> str:
    kv_fraction = row["kv_fraction"]
    return model_label(row) + ("" if pd.isna(kv_fraction) else f", KV {100 * kv_fraction:.0f} %")


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The table of an experiment as it is written: as CSV, and as Markdown. Raises as `experiment_scores`."""
    rows = experiment_scores(run)
    about = [f"Run {run.name}, model {run.model_name}. Exact match, of answers with several parts the share given."]
    return rows, markdown("Method by task", about, rows)
