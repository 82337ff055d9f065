"""The table `kv_reductions`: hybrids, and the full model with as little KV cache by reduction at inference."""

from __future__ import annotations

import pandas as pd

from longgen.reporting.measures import TASK_TITLES, pool, retrieval_by_length, task_order
from longgen.reporting.run import Run
from longgen.reporting.words import TO, format_length, in_method_order, method_label, variant_label
from longgen.statistics import difference_interval

_EXACT = ("exact", "exact_low", "exact_high")
_BEHIND = ("behind_hybrid", "behind_hybrid_low", "behind_hybrid_high")
# what tells the rows of kind ``kv-reduction`` apart when they are pooled over depths
REDUCED_BY = ["method", "budget_of", "task", "length", "kv_fraction"]
COLUMNS = ["length", "budget_of", "task", "name", "reduced", "kv_fraction", "n", *_EXACT, *_BEHIND]


def pooled_reductions(run: Run) -> pd.DataFrame:
    """Exact match of every method, budget, task and length, pooled over depths; columns of `pool`."""
    return pool(run.frame("kv-reduction"), REDUCED_BY)


def kv_reductions_table(run: Run) -> pd.DataFrame:
    """By length, budget and task: a row for the hybrid whose budget is kept, for full attention, and for every method.

    Budgets are in the order of the plan, methods in that of all tables and figures (`in_method_order`).

    Returns:
        The columns `COLUMNS`: ``reduced`` is true of methods; ``behind_hybrid`` is the hybrid's exact match minus the
        row's, with the interval of two independent proportions, missing where the hybrid was not asked.

    Raises:
        ArtifactError: the run has no such results, or no trained model was evaluated or measured.
    """
    reductions = pooled_reductions(run).rename(columns={"method": "name"}).assign(reduced=True)
    variants = retrieval_by_length(run).rename(columns={"variant": "name"}).assign(reduced=False)
    variants = variants.merge(
        run.frame("memory")[["variant", "length", "kv_fraction"]].rename(columns={"variant": "name"}), how="left"
    )
    tables = []
    for length in sorted(set(reductions["length"])):
        for budget_of in [name for name in run.variants if name in set(reductions["budget_of"])]:
            methods = reductions[(reductions["length"] == length) & (reductions["budget_of"] == budget_of)]
            names = in_method_order(methods["name"])
            for task in task_order(methods):
                here = pd.concat([variants[variants["length"] == length], methods])
                here = here[here["task"] == task].set_index("name")
                rows = here.loc[[name for name in (budget_of, "full", *names) if name in here.index]]
                rows = rows.reset_index().assign(length=length, budget_of=budget_of)
                tables.append(_beside_hybrid(rows, budget_of))
    return pd.concat(tables, ignore_index=True)[COLUMNS]


def _beside_hybrid(rows: pd.DataFrame, hybrid: str) -> pd.DataFrame:
    """With columns by how much each row is behind the hybrid."""
    intervals = {row["name"]: tuple(row[column] for column in _EXACT) for row in rows.to_dict("records")}
    behind = [
        difference_interval(intervals[hybrid], intervals[name])
        if hybrid in intervals and name != hybrid
        else (float("nan"),) * len(_BEHIND)
        for name in rows["name"]
    ]
    return rows.assign(**dict(zip(_BEHIND, zip(*behind, strict=True), strict=True)))


def kv_reductions_markdown(run: Run, table: pd.DataFrame) -> str:
    """The table to read: a row per model and budget, its tasks side by side, and what is compared."""
    cells: dict[tuple, dict[str, str]] = {}
    samples: dict[str, set[int]] = {}
    for row in table.to_dict("records"):
        title = TASK_TITLES.get(row["task"], row["task"])
        samples.setdefault(title, set()).add(int(row["n"]))
        cell = cells.setdefault(
            (row["length"], row["budget_of"], row["name"]),
            {
                "tokens": format_length(row["length"]),
                "budget of": variant_label(row["budget_of"]),
                "model": f"full, reduced: {method_label(row['name'])}"
                if row["reduced"]
                else variant_label(row["name"]),
                "KV cache": "" if pd.isna(row["kv_fraction"]) else f"{100 * row['kv_fraction']:.1f} %",
            },
        )
        cell[title] = f"{row['exact']:.2f} ({row['exact_low']:.2f}{TO}{row['exact_high']:.2f})"
        cell[f"{title}: hybrid ahead by"] = (
            ""
            if pd.isna(row["behind_hybrid"])
            else f"{100 * row['behind_hybrid']:.0f} "
            f"({100 * row['behind_hybrid_low']:.0f} to {100 * row['behind_hybrid_high']:.0f})"
        )
    counts = "; ".join(f"{title}, n = {', '.join(map(str, sorted(sizes)))}" for title, sizes in samples.items())
    return "\n".join(
        [
            "# Hybrids against KV reduction at inference",
            "",
            f"Run {run.name}; {run.device('kv-reduction')}; {run.days('kv-reduction')}. The full model, extended like "
            "the hybrids, reads the prompt and then keeps as many bytes of KV cache as the hybrid of the group does; "
            f"every method gets the prompts that the hybrid got, or the first of them. Exact match ({counts}), and by "
            "how many points the hybrid is ahead, with 95 % intervals. SnapKV and PyramidKV see the question before "
            "they choose what to keep; DuoAttention alone has learned something on this model, its gates.",
            "",
            "KV cache is the share of full attention's: a hybrid's after as many tokens as the row says, a method's "
            "after the prompt, which lacks the tokens of the answer. The budget is what the hybrid keeps after the "
            "prompt too. Its window moves by whole blocks, so that it keeps up to a block per sparse head more there "
            "than at the end of a block.",
            "",
            pd.DataFrame(list(cells.values())).fillna("").to_markdown(index=False, disable_numparse=True),
            "",
        ]
    )


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The table as it is written: as CSV, and as Markdown. Raises ArtifactError: the run lacks its results."""
    table = kv_reductions_table(run)
    return table, kv_reductions_markdown(run, table)
