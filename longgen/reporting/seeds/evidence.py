"""The evidence ledger of a group of seeds: every claim of evidence.yaml, what was measured, and a verdict by rule."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass

import pandas as pd

from longgen.reporting.seeds.claims import FULL, REDUCTIONS, Comparison, SeedClaim, SeedClaims, seed_claims
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.pooling import Estimate, is_paired, pool_difference
from longgen.reporting.seeds.values import SPEEDUPS, Values
from longgen.reporting.words import in_method_order

HOLDS, FAILS, NOT_SHOWN, NOT_MEASURED = "holds", "does not hold", "not shown", "not measured"
VERDICTS = (HOLDS, FAILS, NOT_SHOWN, NOT_MEASURED)
_TRAINING = next(name for name in SPEEDUPS if name.startswith("training"))
# Values less accurate than this are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class EvidenceRow:
    """One comparison of a claim. What was not measured is None.

    ``measured`` and the ends of its interval are in ``unit``: points of exact match, or x. ``n`` counts samples over
    all seeds and tasks; ``paired`` says whether the two were compared sample by sample.
    """

    claim: str
    first: str
    second: str
    tasks: str | None
    length: int
    unit: str
    measured: float | None
    interval_low: float | None
    interval_high: float | None
    seeds: int
    n: int | None
    paired: bool | None
    rule: str
    verdict: str


def judge(comparison: Comparison, estimate: Estimate | None) -> str:
    """One of `VERDICTS`, by the rule in evidence.yaml; ``found`` is in the unit of the limits."""
    if estimate is None:
        return NOT_MEASURED
    if comparison.above is not None:
        low, high, limit = estimate.low, estimate.high, comparison.above
    else:
        assert comparison.below is not None  # one of the two is given
        low, high, limit = -estimate.high, -estimate.low, -comparison.below
    if low > limit + _ROUNDING:
        return HOLDS
    return FAILS if high <= limit + _ROUNDING else NOT_SHOWN


def weakest(verdicts: Iterable[str]) -> str:
    """The verdict on a claim from those on its comparisons, of which there is one at least.

    One that does not hold decides. Else all must hold: what was not measured in part is not shown.
    """
    distinct = set(verdicts)
    if FAILS in distinct:
        return FAILS
    return distinct.pop() if len(distinct) == 1 else NOT_SHOWN


def evidence_table(group: Group, values: Values) -> pd.DataFrame:
    """A row per comparison, in the order of evidence.yaml; the columns of `EvidenceRow`."""
    claims = seed_claims()
    answerable = _answerable_tasks(group, values, claims)
    rows = [
        row
        for claim in claims.claims
        for comparison in claim.comparisons
        for row in _rows(claim, comparison, group, values, claims, answerable)
    ]
    numbers = dict.fromkeys(("measured", "interval_low", "interval_high"), float)
    return pd.DataFrame([asdict(row) for row in rows]).astype(numbers).round(9).astype({"n": "Int64"})


def claim_verdicts(table: pd.DataFrame) -> dict[str, str]:
    """Claim -> `weakest` of its rows of `evidence_table`."""
    return {str(name): weakest(rows["verdict"]) for name, rows in table.groupby("claim", sort=False)}


def _answerable_tasks(group: Group, values: Values, claims: SeedClaims) -> list[str]:
    """The tasks that count: those that full attention answers."""
    full = claims.variant(FULL, group.plan)
    shares = {task: values.share(full, [task]) if full else None for task in values.tasks}
    return [task for task, share in shares.items() if share and share.value >= claims.answered - _ROUNDING]


def _rows(
    claim: SeedClaim,
    comparison: Comparison,
    group: Group,
    values: Values,
    claims: SeedClaims,
    answerable: list[str],
) -> Iterator[EvidenceRow]:
    first = claims.variant(comparison.first, group.plan)
    second = None if comparison.second == REDUCTIONS else claims.variant(comparison.second, group.plan)
    first_name = first or comparison.first
    second_name = second or comparison.second
    if claim.measure == "training-speedup":
        estimate = values.other(first, _TRAINING) if first and second else None
        yield _row(claim, comparison, first_name, second_name, values.length, "x", estimate, None, None)
        return
    if comparison.second == REDUCTIONS:
        methods = in_method_order(method for method, budget_of in values.reductions if budget_of == first)
        others = {method: values.reductions[method, first_name] for method in methods}
        others = {f"full, reduced: {method}": seeds for method, seeds in others.items()} or {"KV reduction": {}}
    else:
        others = {second_name: values.retrieval.get(second_name, {})}
    for name, each in others.items():
        first_shares, second_shares = (
            {seed: part for seed, shares in side.items() if (part := shares.of(answerable))}
            for side in (values.retrieval.get(first_name, {}), each)
        )
        estimate = pool_difference(first_shares, second_shares)
        points = estimate and estimate.transform(lambda value: 100 * value)
        both = {
            task
            for seed in first_shares.keys() & second_shares.keys()
            for task in first_shares[seed].tasks
            if task in second_shares[seed].tasks
        }
        tasks = [task for task in answerable if task in both]
        paired = is_paired(first_shares, second_shares) if estimate else None
        yield _row(claim, comparison, first_name, name, values.length, "points", points, tasks, paired)


def _row(
    claim: SeedClaim,
    comparison: Comparison,
    first: str,
    second: str,
    length: int,
    unit: str,
    estimate: Estimate | None,
    tasks: list[str] | None,
    paired: bool | None,
) -> EvidenceRow:
    return EvidenceRow(
        claim=claim.name,
        first=first,
        second=second,
        tasks=", ".join(tasks) if tasks else None,
        length=length,
        unit=unit,
        measured=estimate.value if estimate else None,
        interval_low=estimate.low if estimate else None,
        interval_high=estimate.high if estimate else None,
        seeds=estimate.seeds if estimate else 0,
        n=estimate.n if estimate else None,
        paired=paired,
        rule=comparison.rule,
        verdict=judge(comparison, estimate),
    )
