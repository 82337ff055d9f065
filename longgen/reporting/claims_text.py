"""The claims ledger for readers: claims.md."""

from __future__ import annotations

import pandas as pd

from longgen.reporting.claims import ledger
from longgen.reporting.disturbed import rule_lines, with_sign
from longgen.reporting.paper import PaperClaim, PaperClaims, paper_claims, scale_name
from longgen.reporting.run import Run
from longgen.reporting.words import TIMES

CAUTION = (
    "**Measurements at another scale, or of speed on a CPU, do not confirm the paper's claims.** They say what the "
    "same method did with another model, length or device; only those at the paper's scale, of speed on a GPU, can "
    "confirm or refute the paper's numbers. Elsewhere a "
    "speed-up or saving is compared with the ideal of its own scale: what share of it was reached, and what share the "
    "paper reached of its own."
)


def claims_markdown(ledger: pd.DataFrame) -> str:
    """The ledger as Markdown: one table per scale, the rule of the verdicts below."""
    paper = paper_claims()
    paper_scale = scale_name(paper.model, paper.length)
    lines = [f"# Claims of {paper.title}: ideal, measured, verdict", "", CAUTION, ""]
    at_paper_scale = ledger["scale"] == paper_scale
    lines += _section(f"At the paper's scale: {paper_scale}", ledger[at_paper_scale], paper)
    for (run, scale), rows in ledger[~at_paper_scale].groupby(["run", "scale"], sort=False):
        lines += _section(f"At the scale of run {run}: {scale}", rows, paper)
    lines += ["## Rules", "", *_rules(paper), *rule_lines(True), "", *(f"- {note}" for note in paper.notes)]
    return "\n".join(lines) + "\n"


def format_value(value: float | str | None, claim: PaperClaim) -> str:
    """A value of a claim with its unit; empty if there is none."""
    if isinstance(value, str):
        return value
    if value is None or pd.isna(value):
        return ""
    return f"{value:.{claim.decimals}f}{_unit(claim)}"


def format_share(value: float | None, decimals: int = 0) -> str:
    """A share in per cent; empty if there is none."""
    return "" if value is None or pd.isna(value) else f"{100 * value:.{decimals}f} %"


def format_range(low: float, high: float, claim: PaperClaim) -> str:
    """Two values of a claim and their unit, once; one where they read alike, empty if there is none."""
    if pd.isna(low) or format_value(low, claim) == format_value(high, claim):
        return format_value(high, claim)
    return f"{low:.{claim.decimals}f} to {format_value(high, claim)}"


def _unit(claim: PaperClaim) -> str:
    return TIMES if claim.unit == "x" else f" {claim.unit}"


def without_repeats(cells: list[dict[str, str]], column: str) -> list[dict[str, str]]:
    """``cells`` with that column empty where it says the same as in the row above."""
    above = [None, *(row[column] for row in cells)]
    return [row | ({column: ""} if row[column] == before else {}) for row, before in zip(cells, above, strict=False)]


def _section(title: str, rows: pd.DataFrame, paper: PaperClaims) -> list[str]:
    claims = {claim.name: claim for claim in paper.claims}
    cells = []
    for row in rows.to_dict("records"):
        claim = claims[row["claim"]]
        value = format_value(row["measured"], claim)
        if value and not pd.isna(row["interval_low"]):
            low, high = (f"{row[f'interval_{end}']:.{claim.decimals}f}" for end in ("low", "high"))
            value += f" ({low} to {high})"
        origin = ", ".join(row[name] for name in ("run", "device") if not pd.isna(row[name]))
        cells.append(
            {
                "claim": claim.claim,
                "variant": row["variant"],
                "paper": format_value(row["paper"], claim),
                "ideal": format_value(row["ideal"], claim),
                "measured (95 % interval)": with_sign(value, row["disturbed"]),
                "share of ideal": format_share(row["share"]),
                "paper's share": format_share(row["paper_share"]),
                "verdict": row["verdict"],
                "run, device": origin,
            }
        )
    table = pd.DataFrame(without_repeats(cells, "claim")).to_markdown(index=False, disable_numparse=True)
    return [f"## {title}", "", table, ""]


def _rules(paper: PaperClaims) -> list[str]:
    rows = [
        {
            "claim": claim.claim,
            "name": f"`{claim.name}`",
            "what is measured": claim.how or "",
            "reproduced, or holds: low end at least": format_value(claim.reproduced_from, claim),
            "exceeded: low end above": _exceeded_limit(claim),
            "share reached: low end at least": _share_from(claim, paper),
        }
        for claim in paper.claims
    ]
    return [
        "Verdicts are given by rule alone. Let the ends be those of the measured value's 95 % interval, or the value "
        "itself where it is exact (bytes).",
        "",
        "- At the paper's scale, speed-ups on a GPU alone: *exceeded*, the low end is above target + tolerance; "
        "*reproduced*, else it is at least target - tolerance; *not reached*, it is lower, or too uncertain to tell.",
        "- At other scales, and of speed-ups on a CPU, of a claim with a number: *share reached*, the low end over the "
        "ideal of its own scale is "
        "at least (target - tolerance) over the paper's ideal, which is that of "
        f"`{paper.reading}` at the paper's scale; *share not reached*, it is lower, or too uncertain to tell; "
        "*not comparable*, the ideal is unknown, or so small that a model that gains nothing would pass as well.",
        "- At other scales, of a claim in words, with the same limit as at the paper's: *holds*, the low end is at "
        "least the limit; *does not hold*, the high end is below it; *not shown*, neither.",
        "- At every scale: *disturbed*, see below, a value that is shown and counts for nothing; *not measured*, there "
        "is none.",
        "",
        pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True),
    ]


def _share_from(claim: PaperClaim, paper: PaperClaims) -> str:
    share, ideal = paper.share_from(claim), paper.ideal(claim, paper.reading)
    if share is None:
        return "has no ideal"
    limit = format_value(claim.reproduced_from, claim)
    return f"{format_share(share, 1)} of ideal ({limit} of {format_value(ideal, claim)})"


def _exceeded_limit(claim: PaperClaim) -> str:
    return format_value(claim.exceeded_above, claim) if claim.can_exceed else "cannot be"


def make_table(run: Run) -> tuple[pd.DataFrame, str]:
    """The claims of one experiment: as CSV, and as Markdown. Raises ArtifactError: it is none."""
    if not run.is_experiment:
        raise run.missing("plan")
    table = ledger([run])
    return table, claims_markdown(table)
