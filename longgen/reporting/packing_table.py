"""The table `packing_table`: what `longgen pack` read, dropped, used and wasted, by domain."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from longgen.errors import ArtifactError
from longgen.reporting.run import Run

ARROW = "\u2192"
COUNTS = [
    *("documents_read", "tokens_read", "documents_duplicate", "tokens_duplicate"),
    *("documents_used", "tokens_used", "tokens_wasted", "bad_records"),
]
SHARES = ["share_before", "share_after", "long_before", "long_after"]
TIMES = ["seconds", "tokens_per_second", "workers"]


def threshold_of(run: Run) -> int:
    """Tokens from which on a document of the packing is long."""
    return int(run.settings("packing")["upsampling"]["threshold"])


def packing_rows(run: Run) -> pd.DataFrame:
    """The records of kind ``packing``, with ``tokens_before``: those read, without duplicates.

    Raises:
        ArtifactError: the run has no packing, or several.
    """
    rows = run.frame("packing")
    sums = int(rows["domain"].isna().sum())
    if sums != 1:
        raise ArtifactError(f"{run.folder} holds results of kind packing with {sums} sums: allowed is one packing")
    return rows.assign(tokens_before=rows["tokens_read"] - rows["tokens_duplicate"])


def packing_table(run: Run) -> pd.DataFrame:
    """A row per domain, the largest first; per source that is no domain but had bad records; and the sum, without one.

    Columns: counts and times of the results file; ``share_before`` and ``share_after``, of all tokens; ``long_before``
    and ``long_after``, what long documents have of the row's own tokens. "Before" is without duplicates.

    Raises:
        ArtifactError: the run has no packing, or several.
    """
    rows = packing_rows(run)
    long = rows["length_low"] >= threshold_of(run)
    rows = rows.assign(
        long_before=rows["tokens_before"].where(long, 0),
        long_after=rows["tokens_used"].where(long, 0),
    )
    sum_columns = [*COUNTS, "tokens_before", "long_before", "long_after"]
    domains = rows.groupby("domain")[sum_columns].sum().sort_values("tokens_before", ascending=False, kind="stable")
    of_all = rows.loc[rows["domain"].isna(), ["domain", *TIMES]].assign(**domains.sum())
    table = pd.concat([domains.reset_index(), of_all], ignore_index=True)
    for when, tokens in (("before", table["tokens_before"]), ("after", table["tokens_used"])):
        table[f"share_{when}"] = tokens / tokens.iloc[-1]
        table[f"long_{when}"] /= tokens
    return table[["domain", *COUNTS, *SHARES, *TIMES]]


def packing_markdown(run: Run, table: pd.DataFrame) -> str:
    """``table`` to read, with what was set and how quick it was."""
    settings, total = run.settings("packing"), table.iloc[-1]
    upsampling, lengths = settings["upsampling"], ", ".join(f"{length:,}" for length in settings["lengths"])
    upsampling_words = [
        f"{name} {upsampling[name]:g}" for name in ("factor", "share") if upsampling.get(name) is not None
    ]
    return "\n".join(
        [
            f"# Packing: {run.name}",
            "",
            f"Method {', '.join([settings['method'], *upsampling_words])}; rows of {lengths} tokens; tokenizer "
            f"{settings['tokenizer']}. Long documents have at least {threshold_of(run):,} tokens. Shares are of "
            f"tokens: read, without duplicates {ARROW} packed.",
            "",
            f"{total['tokens_read']:,} tokens were read, tokenised and packed in {total['seconds']:,.1f} s: "
            f"**{total['tokens_per_second']:,.0f} tokens per second** with {total['workers']:.0f} worker process(es); "
            f"{run.device('packing')}; {run.days('packing')}.",
            "",
            pd.DataFrame([_cells(row) for row in table.to_dict("records")]).to_markdown(
                index=False, disable_numparse=True, colalign=("left", *["right"] * 8)
            ),
            "",
        ]
    )


def _cells(row: Mapping[Hashable, Any]) -> dict[str, str]:
    waste = 100 * row["tokens_wasted"] / max(row["tokens_used"] + row["tokens_wasted"], 1)
    return {
        "domain": "all" if pd.isna(row["domain"]) else row["domain"].replace("|", r"\|"),
        "documents": f"{row['documents_read']:,} {ARROW} {row['documents_used']:,}",
        "tokens": f"{row['tokens_read']:,} {ARROW} {row['tokens_used']:,}",
        "share of all": _change(row["share_before"], row["share_after"]),
        "in long documents": _change(row["long_before"], row["long_after"]),
        "duplicates dropped": f"{row['documents_duplicate']:,}",
        "tokens in them": f"{row['tokens_duplicate']:,}",
        "wasted tokens": f"{row['tokens_wasted']:,} ({waste:.2f} %)",
        "bad records": f"{row['bad_records']:,}",
    }


def _change(before: float, after: float) -> str:
    """Two shares in per cent; a dash for that of nothing."""
    shares = ("-" if pd.isna(share) else f"{100 * share:.1f} %" for share in (before, after))
    return f" {ARROW} ".join(shares)


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The table as it is written: as CSV, and as Markdown. Raises ArtifactError: the run lacks its results."""
    table = packing_table(run)
    return table, packing_markdown(run, table)
