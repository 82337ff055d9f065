"""What the runs of a group measured, by variant and quantity, ready to be pooled."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from longgen.errors import ArtifactError
from longgen.reporting.ablation import INTERVAL, ablation_table
from longgen.reporting.measures import STAGES, own_perplexity, task_order
from longgen.reporting.run import Run
from longgen.reporting.seeds.groups import Group
from longgen.reporting.seeds.pooling import AnswerCounts, Estimate, Interval, SeedValue, Shares, pool

TASKS = "retrieval"  # the mean over tasks
NLL = "nll"
LOSS, THROUGHPUT = "training_loss", "training_tokens_per_second"
KV = "kv_fraction"
SPEEDUPS = tuple(f"{stage}_speedup" for stage in STAGES)
# Times are of a device: by the kind of results that has them.
_TIME_QUANTITIES = {"speed": SPEEDUPS, "training": (THROUGHPUT,)}


@dataclass(frozen=True)
class Values:
    """All that was measured, at the trained length but for ``by_length`` and ``positions``.

    Attributes:
        length: the trained one, in tokens.
        by_length: (variant, length) -> seed -> `Shares` by task.
        positions: (variant, end of a bin of positions) -> seed -> mean negative log-likelihood of its tokens.
        reductions: of the full model with its KV cache reduced: (method, budget of which variant) -> seed -> `Shares`.
        others: (variant, quantity) -> seed -> value.
        kv_fractions: (method, budget) -> seed -> share of the KV cache.
    """

    length: int
    by_length: dict[tuple[str, int], dict[int, Shares]] = field(default_factory=dict)
    positions: dict[tuple[str, int], dict[int, SeedValue]] = field(default_factory=dict)
    reductions: dict[tuple[str, str], dict[int, Shares]] = field(default_factory=dict)
    others: dict[tuple[str, str], dict[int, SeedValue]] = field(default_factory=dict)
    kv_fractions: dict[tuple[str, str], dict[int, SeedValue]] = field(default_factory=dict)

    @cached_property
    def retrieval(self) -> dict[str, dict[int, Shares]]:
        """At the trained length: variant -> seed -> `Shares` by task."""
        return {variant: seeds for (variant, length), seeds in self.by_length.items() if length == self.length}

    @property
    def tasks(self) -> list[str]:
        """Those of any variant, in their usual order."""
        names = [task for seeds in self.retrieval.values() for shares in seeds.values() for task in shares.tasks]
        return task_order(pd.DataFrame({"task": names}))

    def share(self, variant: str, tasks: list[str], length: int | None = None) -> Estimate | None:
        """Mean over ``tasks`` of a variant's `Shares`, pooled over the seeds that were asked all of these.

        Args:
            variant: its name.
            tasks: one or more.
            length: in tokens; None for the trained one.
        """
        by_seed = self.by_length.get((variant, length or self.length), {})
        task_shares = {seed: shares.of(tasks) for seed, shares in by_seed.items()}
        whole = {seed: each for seed, each in task_shares.items() if each is not None and len(each.tasks) == len(tasks)}
        return pool(whole) if whole else None

    def other(self, variant: str, quantity: str) -> Estimate | None:
        """Any other quantity of a variant, pooled."""
        by_seed = self.others.get((variant, quantity))
        return pool(by_seed) if by_seed else None

    def perplexity(self, variant: str) -> Estimate | None:
        """That of the mean negative log-likelihood: the geometric mean over seeds."""
        nll = self.other(variant, NLL)
        return nll and nll.transform(math.exp)

    def perplexity_before(self, variant: str, end: int) -> Estimate | None:
        """Perplexity in the bin of positions with that ``end``."""
        by_seed = self.positions.get((variant, end))
        return pool(by_seed).transform(math.exp) if by_seed else None


def read_values(group: Group) -> Values:
    """Read all runs of ``group``. Speed and throughput are of the device that measured most seeds, and of no other.

    Disturbed speed-ups count nowhere, as in the claims ledger.

    Raises:
        ArtifactError: a results file cannot be used.
    """
    values = Values(group.plan.trained_length)
    for seed, run in group.runs.items():
        length = values.length
        for (variant, at), shares in _shares(run, "retrieval", ["variant", "length"]).items():
            values.by_length.setdefault((variant, at), {})[seed] = shares
        for row in own_perplexity(run).to_dict("records"):
            nll = Interval(row["nll"], row["nll_low"], row["nll_high"])
            values.positions.setdefault((row["variant"], row["position_end"]), {})[seed] = nll
        by = ["method", "budget_of", "kv_fraction", "length"]
        for (method, budget_of, kv_fraction, at), shares in _shares(run, "kv-reduction", by).items():
            if at != length:
                continue
            values.reductions.setdefault((method, budget_of), {})[seed] = shares
            values.kv_fractions.setdefault((method, budget_of), {})[seed] = Interval(
                kv_fraction, kv_fraction, kv_fraction
            )
        for key, interval in {**_of_table(run), **_of_training(run, length)}.items():
            values.others.setdefault(key, {})[seed] = interval
    for kind, quantities in _TIME_QUANTITIES.items():
        others = _on_other_devices(group, kind)
        for (_, quantity), seeds in values.others.items():
            if quantity in quantities:
                for seed in others & seeds.keys():
                    del seeds[seed]
    return values


def _on_other_devices(group: Group, kind: str) -> set[int]:
    """Seeds whose ``kind`` was not measured on the device that measured most of them."""
    devices = {seed: run.device(kind) for seed, run in group.runs.items() if run.has(kind)}
    usual = Counter(devices.values()).most_common(1)
    return {seed for seed, device in devices.items() if device != usual[0][0]}


def _shares(run: Run, kind: str, by: list[str]) -> dict[tuple, Shares]:
    """``by`` must tell lengths apart."""
    tasks: dict[tuple, dict[str, dict[float | None, AnswerCounts]]] = {}
    for row in run.frame(kind).to_dict("records") if run.has(kind) else ():
        cells = tasks.setdefault(tuple(row[name] for name in by), {}).setdefault(row["task"], {})
        depth = None if pd.isna(row["depth"]) else float(row["depth"])
        cells[depth] = _cell(run, kind, row)
    return {key: Shares(task_cells) for key, task_cells in tasks.items()}


def _cell(run: Run, kind: str, row: dict) -> AnswerCounts:
    n, outcomes = int(row["n"]), row["parts_given"]
    if pd.isna(row["parts"]):  # a file of an earlier version, in which outcomes were right or wrong
        score = row["exact"] if pd.isna(row["share"]) else row["share"]
        return AnswerCounts(n, score * n, None)
    parts, where = int(row["parts"]), f"{row['task']}, {row['length']} tokens, depth {row['depth']}"
    parts_given = round(row["share"] * n * parts)
    digits = [int(each) for each in str(outcomes) if each in "0123456789"]
    if not len(digits) == len(str(outcomes)) == n or max(digits) > parts or sum(digits) != parts_given:
        raise ArtifactError(
            f"{run.folder}: parts_given of kind {kind} is {outcomes!r} ({where}): allowed are {n} digits of at most "
            f"{parts} with the sum {parts_given}, as n, parts and share say"
        )
    return AnswerCounts(n, parts_given, outcomes, parts)


def _of_table(run: Run) -> dict[tuple[str, str], Interval]:
    """What `ablation_table` has of a run, but for disturbed speed-ups."""
    intervals = {}
    for row in ablation_table(run).to_dict("records"):
        for column in (KV, *SPEEDUPS):
            value = row[column]
            low, high = (row.get(f"{column}_{end}", value) for end in ("low", "high"))
            is_disturbed = row.get(f"{column}_disturbed")
            if not any(map(pd.isna, (value, low, high))) and (pd.isna(is_disturbed) or not is_disturbed):
                intervals[row["variant"], column] = Interval(value, low, high)
        value, low, high = (row[f"perplexity{end}"] for end in INTERVAL)
        if not any(map(pd.isna, (value, low, high))):
            intervals[row["variant"], NLL] = Interval(math.log(value), math.log(low), math.log(high))
    return intervals


def _of_training(run: Run, length: int) -> dict[tuple[str, str], Interval]:
    """Last loss of the extension, and its median throughput at the trained length."""
    if not run.has("training"):
        return {}
    rows = run.frame("training")
    rows = rows[(rows["stage"] == "extension") & (rows["length"] == length)]
    intervals = {}
    for variant, own in rows.groupby("variant", sort=False):
        last, rate = float(own["loss"].iloc[-1]), float(own["tokens_per_second"].median())
        intervals[str(variant), LOSS] = Interval(last, last, last)
        intervals[str(variant), THROUGHPUT] = Interval(rate, rate, rate)
    return intervals
