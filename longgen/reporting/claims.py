"""The claims ledger: what the paper claims, what the planner allows, what was measured, and a verdict by rule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import pandas as pd

from longgen.reporting.claim_measures import MEASURES, Measurement
from longgen.reporting.measures import ideal_speedup
from longgen.reporting.paper import PaperClaim, PaperClaims, paper_claims, scale_name
from longgen.reporting.paper_scale import measured_at_paper_scale, timed_on_gpu
from longgen.reporting.run import Run
from longgen.reporting.seeds.evidence import FAILS, HOLDS, NOT_MEASURED, NOT_SHOWN
from longgen.reporting.served_sequences import served_sequences

# At the paper's scale; at other scales of claims with a number, and of claims in words; at every scale.
EXCEEDED, REPRODUCED, NOT_REACHED = "exceeded", "reproduced", "not reached"
SHARE_REACHED, SHARE_NOT_REACHED, NOT_COMPARABLE = "share reached", "share not reached", "not comparable"
DISTURBED = "disturbed"
VERDICTS = (
    *(EXCEEDED, REPRODUCED, NOT_REACHED),
    *(SHARE_REACHED, SHARE_NOT_REACHED, NOT_COMPARABLE),
    *(HOLDS, NOT_SHOWN, FAILS),
    *(DISTURBED, NOT_MEASURED),
)
# Proportions less accurate than this are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class LedgerRow:
    """One claim at one scale for one variant. Missing numbers are None: ``measured`` never holds a prediction.

    ``share`` is ``measured`` over ``ideal``, ``paper_share`` the paper's number over its own. ``share_from`` is the
    limit of verdicts by share; ``reproduced_from`` and ``exceeded_above`` are those of the other rules. Only the limits
    of the rule that holds at the scale are there. ``disturbed`` is None where it was not recorded how busy the machine
    was.
    Of models with random weights ``device`` also says whether the value is the whole model's or composed of parts.
    """

    claim: str
    variant: str
    scale: str
    unit: str
    paper: float | str | None
    ideal: float | None
    measured: float | None
    interval_low: float | None
    interval_high: float | None
    n: int | None
    share: float | None
    paper_share: float | None
    share_from: float | None
    reproduced_from: float | None
    exceeded_above: float | None
    run: str | None
    device: str | None
    disturbed: bool | None
    verdict: str


def verdict(claim: PaperClaim, measurement: Measurement | None) -> str:
    """One of `VERDICTS`, by the rule in paper_claims.yaml at the paper's scale, of times on a GPU."""
    if measurement is None or measurement.disturbed:
        return NOT_MEASURED if measurement is None else DISTURBED
    if claim.can_exceed and measurement.lower > claim.exceeded_above + _ROUNDING:
        return EXCEEDED
    return REPRODUCED if measurement.lower >= claim.reproduced_from - _ROUNDING else NOT_REACHED


def verdict_elsewhere(
    claim: PaperClaim, measurement: Measurement | None, ideal: float | None, share_from: float | None
) -> str:
    """One of `VERDICTS`, by the rule in paper_claims.yaml at other scales, and of times on a CPU.

    Args:
        claim: which.
        measurement: what was measured, if it was.
        ideal: at that scale; None where it is not known.
        share_from: `PaperClaims.share_from`; None of a claim in words.
    """
    if measurement is None or measurement.disturbed:
        return NOT_MEASURED if measurement is None else DISTURBED
    if share_from is None:
        if measurement.lower >= claim.reproduced_from - _ROUNDING:
            return HOLDS
        return FAILS if measurement.upper < claim.reproduced_from - _ROUNDING else NOT_SHOWN
    if ideal is None or ideal * share_from <= claim.nothing_gained + _ROUNDING:
        return NOT_COMPARABLE
    return SHARE_REACHED if measurement.lower / ideal >= share_from - _ROUNDING else SHARE_NOT_REACHED


def own_rows(run: Run, paper: PaperClaims) -> list[LedgerRow]:
    """Every claim at the run's own scale.

    The length is the trained length; for a speed-up or cache size that was not measured there, the longest measured
    one, and the scale says so.
    """
    return [
        _own_row(run, claim, variant, paper) for claim in paper.claims for variant in _variants_of(run, claim, paper)
    ]


def _own_row(run: Run, claim: PaperClaim, variant: str, paper: PaperClaims) -> LedgerRow:
    length = _length(run, claim, variant)
    measurement = MEASURES[claim.measure].measure(run, claim, variant, length)
    ideal = _planned_ideal(run, claim, variant, length)
    device = run.device(MEASURES[claim.measure].kind) if measurement else None
    scale = scale_name(_model_name(run, paper), length)
    return _row(paper, claim, variant, scale, ideal, measurement, run.name, device)


def _model_name(run: Run, paper: PaperClaims) -> str:
    """The run's model; the paper's own name for any model of its sizes, and for no other."""
    from longgen.shapes import model_shape

    shape = model_shape(paper.model)
    sizes = ("num_layers", "hidden_size", "intermediate_size", "num_heads", "num_kv_heads", "head_dim")
    if all(run.plan.model.get(size) == getattr(shape, size) for size in sizes):
        return paper.model
    return f"{run.model_name} (other sizes)" if run.model_name == paper.model else run.model_name


def _variants_of(run: Run, claim: PaperClaim, paper: PaperClaims) -> list[str]:
    if claim.measure not in MEASURES:
        return []  # no experiment measures it
    # the paper's hybrids were fine-tuned: of a checkpoint that was not, it claims nothing
    variants = [variant for variant in run.plan.variants.values() if variant.trained]
    if claim.measure == "retrieval_lost":
        return [variant.name for variant in variants if variant.layout.num_full == 0]
    hybrids = [variant.name for variant in variants if variant.layout.num_full and variant.layout.num_sparse]
    return [name for name in hybrids if name in paper.hybrids] or hybrids


def _length(run: Run, claim: PaperClaim, variant: str) -> int:
    trained_length = run.plan.trained_length
    kind = MEASURES[claim.measure].kind
    if kind not in ("speed", "memory") or not run.has(kind):
        return trained_length
    rows = run.frame(kind)
    rows = rows[rows["variant"] == variant]
    if claim.stage:
        rows = rows[rows["stage"] == claim.stage]
    return trained_length if rows.empty or trained_length in set(rows["length"]) else int(rows["length"].max())


def _planned_ideal(run: Run, claim: PaperClaim, variant: str, length: int) -> float | None:
    if claim.stage:
        value = ideal_speedup(run, variant, claim.stage, length)
    elif claim.measure == "kv_reduction":
        plan = run.plan.predictions
        fractions = plan[(plan["variant"] == variant) & (plan["length"] == length)]["kv_fraction"]
        value = 100 * (1 - float(fractions.iloc[0])) if len(fractions) else math.nan
    elif claim.measure == "extension":
        value = length / run.plan.base_length
    else:
        return None
    return None if math.isnan(value) else value


def paper_rows(paper: PaperClaims, runs: Sequence[Run] = ()) -> list[LedgerRow]:
    """Every claim at the paper's scale with the planner's ideal.

    Measured are speed-ups and the KV reduction alone, where ``runs`` timed models of that shape. Speed-ups that were
    measured on CPUs alone have a row for a GPU as well, on which they were not.
    """
    rows = []
    for claim in paper.claims:
        scale = scale_name(paper.model, paper.length)
        if claim.measure == "retrieval_lost":
            rows.append(_row(paper, claim, "all-sparse", scale, None, None, None, None))
            continue
        for name in paper.variants:
            ideal = paper.ideal(claim, name)
            measured_rows = _measured_rows(runs, claim, name, scale, ideal, paper)
            rows += measured_rows
            if measured_rows:
                names = {row.run for row in measured_rows}
                if claim.stage and not any(timed_on_gpu(run, claim) for run in runs if run.name in names):
                    rows.append(_row(paper, claim, name, scale, ideal, None, None, "a GPU"))  # times are a device's
            elif claim.has_ideal or name in paper.hybrids:
                rows.append(_row(paper, claim, name, scale, ideal, None, None, None))
    return rows


def _measured_rows(
    runs: Sequence[Run], claim: PaperClaim, variant: str, scale: str, ideal: float | None, paper: PaperClaims
) -> list[LedgerRow]:
    rows = []
    for run in runs:
        pair = measured_at_paper_scale(run, paper, claim, paper.variants[variant])
        if pair is not None:
            measurement, device = pair
            on_gpu = claim.stage is None or timed_on_gpu(run, claim)
            rows.append(_row(paper, claim, variant, scale, ideal, measurement, run.name, device, on_gpu))
    return rows


def _row(
    paper: PaperClaims,
    claim: PaperClaim,
    variant: str,
    scale: str,
    ideal: float | None,
    measurement: Measurement | None,
    run: str | None,
    device: str | None,
    on_gpu: bool = True,
) -> LedgerRow:
    # a CPU's times are of the paper's model, and not of what the paper measured
    as_the_paper = on_gpu and scale == scale_name(paper.model, paper.length)
    share_from = paper.share_from(claim)
    by_share = share_from is not None and not as_the_paper
    return LedgerRow(
        claim=claim.name,
        variant=variant,
        scale=scale,
        unit=claim.unit,
        paper=claim.paper_words if claim.paper is None else claim.paper,
        ideal=ideal,
        measured=measurement.value if measurement else None,
        interval_low=measurement.low if measurement else None,
        interval_high=measurement.high if measurement else None,
        n=measurement.n if measurement else None,
        share=measurement.value / ideal if measurement and ideal else None,
        paper_share=paper.share(claim),
        share_from=share_from if by_share else None,
        reproduced_from=None if by_share else claim.reproduced_from,
        exceeded_above=claim.exceeded_above if claim.can_exceed and as_the_paper else None,
        run=run,
        device=device,
        disturbed=measurement.disturbed if measurement else None,
        verdict=verdict(claim, measurement)
        if as_the_paper
        else verdict_elsewhere(claim, measurement, ideal, share_from),
    )


def ledger(runs: Sequence[Run]) -> pd.DataFrame:
    """The ledger of one or several runs: the paper's scale first, then every run's own.

    An experiment with the paper's model at the paper's length takes the place of unmeasured rows at the paper's scale.
    Runs that served a model have its scale, all others that are no experiments none of their own. Runs that measured
    the same have a row and a verdict each.
    """
    paper = paper_claims()
    own = [row for run in runs if run.is_experiment for row in own_rows(run, paper)]
    at_paper_scale = scale_name(paper.model, paper.length)
    measured_claims = {
        (row.claim, row.variant) for row in own if row.scale == at_paper_scale and row.measured is not None
    }
    # whatever was measured stays, also where an experiment measured the same: runs may disagree
    others = paper_rows(paper, runs)
    others = [row for row in others if row.measured is not None or (row.claim, row.variant) not in measured_claims]
    claims_with_row = {(row.claim, row.variant) for row in others}
    # at the paper's scale one unmeasured row per claim and variant is enough
    own = [
        row
        for row in own
        if not (row.scale == at_paper_scale and row.measured is None and (row.claim, row.variant) in claims_with_row)
    ]
    own += [_row(paper, *values) for run in runs for values in served_sequences(run, paper)]
    order = [claim.name for claim in paper.claims]
    names = [*paper.variants, *(row.variant for row in own)]
    first = sorted(
        (row for row in [*others, *own] if row.scale == at_paper_scale),
        key=lambda row: (order.index(row.claim), names.index(row.variant) if row.variant in names else len(names)),
    )
    return _frame([*first, *(row for row in own if row.scale != at_paper_scale)])


def _frame(rows: Iterable[LedgerRow]) -> pd.DataFrame:
    frame = pd.DataFrame([asdict(row) for row in rows])
    numbers = [
        *("ideal", "measured", "interval_low", "interval_high", "n", "share", "paper_share"),
        *("share_from", "reproduced_from", "exceeded_above"),
    ]
    rounded_frame = frame.astype(dict.fromkeys(numbers, float)).round(9)  # 1.62, not 1.6199999999999999
    return rounded_frame.astype({"n": "Int64", "disturbed": "boolean"})
