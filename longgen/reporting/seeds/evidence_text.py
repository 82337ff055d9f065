"""The evidence ledger for readers: evidence.md, and its summary for docs/results.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from longgen.reporting.claims_text import without_repeats
from longgen.reporting.measures import TASK_TITLES
from longgen.reporting.seeds.claims import seed_claims
from longgen.reporting.seeds.evidence import claim_verdicts, evidence_table
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.table import METHOD, SCORE
from longgen.reporting.seeds.values import Values
from longgen.reporting.words import TIMES, format_length, variant_label

SCALE = (
    "**This is the scale that was measured, not the paper's.** A claim that does not hold here says what this small "
    "model did; one that holds is evidence for the method, not for the paper's numbers."
)
_RULES = (
    "Verdicts are given by rule alone: a comparison *holds* where all of the interval is within its limit, *does not "
    "hold* where none of it is, and is *not shown* where it is too uncertain to tell. A claim is judged by its weakest "
    "comparison; where one was not measured, it is not shown."
)


def evidence_summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row per comparison for readers: its claim with the claim's verdict, who is compared, measured, its verdict."""
    verdicts = claim_verdicts(table)
    claims = {claim.name: claim.claim for claim in seed_claims().claims}
    cells = [
        {
            "claim": f"{claims[row['claim']]}: **{verdicts[row['claim']]}**",
            "comparison": _versus(row),
            "measured (95 % interval)": _measured_text(row),
            "verdict": row["verdict"],
        }
        for row in table.to_dict("records")
    ]
    return pd.DataFrame(without_repeats(cells, "claim"))


def evidence_markdown(group: Group, table: pd.DataFrame) -> str:
    """The ledger as Markdown: verdicts on the claims, every comparison, and the rules."""
    runs = ", ".join(run.name for run in group.runs.values())
    length = format_length(group.plan.trained_length)
    claims = {claim.name: claim.claim for claim in seed_claims().claims}
    verdicts = [(claims[name], f"**{verdict}**") for name, verdict in claim_verdicts(table).items()]
    cells = [
        {
            "claim": claims[row["claim"]],
            "comparison": _versus(row),
            "measured (95 % interval)": _measured_text(row),
            "limit": row["rule"],
            "verdict": row["verdict"],
            "seeds, n": f"{row['seeds']}, {row['n']}" if not pd.isna(row["n"]) else str(row["seeds"] or ""),
            "paired": "" if pd.isna(row["paired"]) else "yes" if row["paired"] else "no",
        }
        for row in table.to_dict("records")
    ]
    return "\n".join(
        [
            f"# Evidence: {group.name}, {group.seeds}, at {length} tokens",
            "",
            f"Means over the runs {runs}, which differ in name and seed alone, on "
            f"{group.device('retrieval', 'speed')}. {SCALE}",
            "",
            _markdown(pd.DataFrame(verdicts, columns=["claim", "verdict"])),
            "",
            "## Comparisons",
            "",
            _markdown(pd.DataFrame(without_repeats(cells, "claim"))),
            "",
            f"Retrieval: {SCORE} of the first minus that of the second, in points, {_tasks(table)}. "
            "Training: speed-up over full attention in the same process.",
            *group.disturbed_lines(),
            "",
            "## Rules",
            "",
            f"{_RULES} {METHOD} *Paired*: with one seed all variants and methods get the same samples; where the files "
            "say what each answer gave, they are compared one by one. n: samples over all seeds.",
            "",
        ]
    )


def _markdown(table: pd.DataFrame) -> str:
    return table.to_markdown(index=False, disable_numparse=True)


def _versus(row: Mapping[Any, Any]) -> str:
    return f"{variant_label(row['first'])} against {variant_label(row['second'])}"


def _measured_text(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["measured"]):
        return ""
    decimals, unit = (2, TIMES) if row["unit"] == "x" else (1, f" {row['unit']}")
    value, low, high = (f"{row[name]:.{decimals}f}" for name in ("measured", "interval_low", "interval_high"))
    return f"{value}{unit} ({low} to {high})"


def _tasks(table: pd.DataFrame) -> str:
    """Which tasks count."""
    answers = f"that full attention answers to at least {seed_claims().answered:.0%}"
    names = dict.fromkeys(task for tasks in table["tasks"].dropna() for task in tasks.split(", "))
    if not names:
        return f"of tasks {answers}: there is none, and nothing to compare"
    return f"the mean over the tasks that both were asked and {answers}: {', '.join(map(_title, names))}"


def _title(task: str) -> str:
    return TASK_TITLES.get(task, task)


def make_table(group: Group, values: Values) -> tuple[pd.DataFrame, str]:
    """The evidence as it is written: as CSV, and as Markdown."""
    table = evidence_table(group, values)
    return table, evidence_markdown(group, table)
