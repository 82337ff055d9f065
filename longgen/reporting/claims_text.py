"""The claims ledger for readers: claims.md."""

from __future__ import annotations

import pandas as pd

from longgen.reporting.paper import PaperClaim, PaperClaims, paper_claims
from longgen.reporting.words import TIMES

CAUTION = (
    "**The small-scale rows do not confirm the paper's claims.** They say what the same method did with a small model "
    "at a short length; only the rows at the paper's scale can confirm or refute the numbers of the paper; where "
    'nothing was measured at that scale they say "not measured".'
)


def claims_markdown(ledger: pd.DataFrame) -> str:
    """The ledger as Markdown: one table per scale, the rule of the verdicts below."""
    paper = paper_claims()
    paper_scale = f"{paper.model} @ {paper.length}"
    lines = [f"# Claims of {paper.title}: ideal, measured, verdict", "", CAUTION, ""]
    at_paper_scale = ledger["scale"] == paper_scale
    lines += _section(f"At the paper's scale: {paper_scale}", ledger[at_paper_scale], paper)
    for (run, scale), rows in ledger[~at_paper_scale].groupby(["run", "scale"], sort=False):
        lines += _section(f"At the scale of run {run}: {scale}", rows, paper)
    lines += ["## Rules", "", *_rules(paper), "", *(f"- {note}" for note in paper.notes)]
    return "\n".join(lines) + "\n"


def format_value(value: float | str | None, unit: str) -> str:
    """A number with its unit; empty if there is none."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return ""
    if unit == "x":
        return f"{value:.2f}{TIMES}"
    return f"{value:.1f} {unit}"


def _section(title: str, rows: pd.DataFrame, paper: PaperClaims) -> list[str]:
    claims = {claim.name: claim for claim in paper.claims}
    cells = []
    for row in rows.to_dict("records"):
        unit = row["unit"]
        measured = format_value(row["measured"], unit)
        if measured and not pd.isna(row["interval_low"]):
            decimals = ".2f" if unit == "x" else ".1f"
            measured += f" ({row['interval_low']:{decimals}} to {row['interval_high']:{decimals}})"
        origin = "" if pd.isna(row["device"]) else f"{row['run']}, {row['device']}"
        cells.append(
            {
                "claim": claims[row["claim"]].claim,
                "variant": row["variant"],
                "paper": format_value(row["paper"], unit),
                "ideal (predicted)": format_value(row["ideal"], unit),
                "measured (95 % interval)": measured,
                "verdict": row["verdict"],
                "run, device": origin,
            }
        )
    return [f"## {title}", "", pd.DataFrame(cells).to_markdown(index=False, disable_numparse=True), ""]


def _rules(paper: PaperClaims) -> list[str]:
    rows = [
        {
            "claim": claim.name,
            "reproduced: low end at least": format_value(claim.reproduced_from, claim.unit),
            "exceeded: low end above": _exceeded(claim),
        }
        for claim in paper.claims
    ]
    return [
        "Verdicts are given by rule alone. Let the low end be that of the measured value's 95 % interval, or the value "
        "itself where it is exact (bytes). *Exceeded*: the low end is above target + tolerance. *Reproduced*: else, "
        "it is at least target - tolerance. *Not reached*: it is lower, or too uncertain to tell. *Not measured*: "
        "nothing was measured. At a small scale, target and tolerance are those of the paper's scale.",
        "",
        pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True),
    ]


def _exceeded(claim: PaperClaim) -> str:
    return format_value(claim.exceeded_above, claim.unit) if claim.can_exceed else "cannot be"
