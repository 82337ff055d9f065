"""The table `kv_reductions`: a hybrid, and the full model with as little KV cache by reduction at inference."""

from __future__ import annotations

import pandas as pd

from longgen.reporting.measures import difference_interval, pool, retrieval_by_length
from longgen.reporting.run import Run
from longgen.reporting.words import TO, format_length, variant_label

_EXACT = ("exact", "exact_low", "exact_high")
COLUMNS = [
    *("length", "name", "reduced", "kv_fraction", "n", *_EXACT),
    *("behind_hybrid", "behind_hybrid_low", "behind_hybrid_high"),
]


def reductions_at(run: Run, length: int) -> pd.DataFrame:
    """Needle exact match of every method at a length, pooled over depths; columns of `pool`, and ``kv_fraction``."""
    rows = run.frame("kv-reduction")
    rows = rows[(rows["length"] == length) & (rows["task"] == "needle")]
    return pool(rows, ["method", "budget_of", "kv_fraction"])


def kv_reductions_table(run: Run) -> pd.DataFrame:
    """A row for full attention, for the hybrid whose budget is kept, and for every method, the best first.

    Returns:
        The columns `COLUMNS`: ``reduced`` is true of methods; ``behind_hybrid`` is the hybrid's exact match minus the
        row's, with the interval of two independent proportions.

    Raises:
        ArtifactError: the run has no such results, or none of the models that they are compared with.
    """
    rows = []
    retrieval = retrieval_by_length(run)
    needle = retrieval[retrieval["task"] == "needle"]
    for length in sorted(set(run.frame("kv-reduction")["length"])):
        reduced = reductions_at(run, int(length)).rename(columns={"method": "name"}).assign(reduced=True)
        here = needle[needle["length"] == length].set_index("variant")
        memory = run.frame("memory").set_index(["variant", "length"])["kv_fraction"]
        (hybrid,) = set(reduced["budget_of"])
        trained = [
            {"name": name, "reduced": False, "kv_fraction": memory.get((name, length)), **here.loc[name]}
            for name in ("full", hybrid)
        ]
        found = pd.concat([reduced, pd.DataFrame(trained)]).assign(length=length)
        best = [float(here.loc[hybrid, column]) for column in _EXACT]
        for row in found.sort_values("exact", ascending=False, kind="stable").to_dict("records"):
            if row["name"] != hybrid:
                own = [float(row[column]) for column in _EXACT]
                behind = difference_interval((best[0], best[1], best[2]), (own[0], own[1], own[2]))
                row |= dict(zip(COLUMNS[-3:], behind, strict=True))
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def kv_reductions_markdown(run: Run, table: pd.DataFrame) -> str:
    """The table to read, with what is compared."""
    cells = [
        {
            "tokens": format_length(row["length"]),
            "model": f"full, reduced: {row['name']}" if row["reduced"] else variant_label(row["name"]),
            "KV cache": f"{100 * row['kv_fraction']:.1f} %",
            "needle, exact match": f"{row['exact']:.2f} ({row['exact_low']:.2f}{TO}{row['exact_high']:.2f})",
            "n": int(row["n"]),
            "hybrid ahead by, points": ""
            if pd.isna(row["behind_hybrid"])
            else f"{100 * row['behind_hybrid']:.0f} "
            f"({100 * row['behind_hybrid_low']:.0f} to {100 * row['behind_hybrid_high']:.0f})",
        }
        for row in table.to_dict("records")
    ]
    return "\n".join(
        [
            "# A hybrid against KV reduction at inference",
            "",
            f"Run {run.name}; {run.device('kv-reduction')}; {run.days('kv-reduction')}. The full model, extended like "
            "the hybrid, reads the prompt and then keeps as many bytes of KV cache as the hybrid does; every method "
            "gets the prompts that the hybrid got, or the first of them. 95 % intervals. snapkv and pyramidkv see the "
            "question before they choose what to keep.",
            "",
            pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True),
            "",
        ]
    )
