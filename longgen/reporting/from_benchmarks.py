"""Benchmarks as the retrieval and perplexity of an experiment that has no evaluation of its own.

An experiment with a pretrained checkpoint is asked benchmarks. Its needles and its perplexity on long text are the same
measurements as those of the small models' own evaluation: the same figures, tables and claims are made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from longgen.names import NONE
from longgen.results import Result

NEEDLE = "needle"
# Of the benchmark's two needles the one that is another in every sample, where it was asked.
NEEDLES = ("keys", "fu")
EXACT = "exact"


def with_benchmarks(results: Sequence[Result]) -> list[Result]:
    """``results``, and those of kinds ``retrieval``, ``kv-reduction`` and ``perplexity`` that benchmarks give.

    Nothing is added of a kind that is there, nothing of stand-in data, and nothing to a run without a plan, which is no
    experiment.
    """
    kinds = {result.kind for result in results}
    found = list(results)
    if "plan" not in kinds:
        return found
    if "retrieval" not in kinds:
        scores = [result for result in results if result.kind == "benchmark"]
        for result in scores:
            for kind, records in _needles(result).items():
                if records and kind not in kinds:
                    found.append(replace(result, kind=kind, records=records))
    if "perplexity" not in kinds:
        texts = [result for result in results if result.kind == "long-text"]
        found += [
            replace(text, kind="perplexity") for text in texts if not any(row.get("stand_in") for row in text.records)
        ]
    return found


def _needles(result: Result) -> dict[str, list[dict[str, Any]]]:
    rows = [
        row
        for row in result.records
        if row["benchmark"] == NEEDLE and row["metric"] == EXACT and not row.get("stand_in")
    ]
    task = next((name for name in NEEDLES if any(row["task"] == name for row in rows)), None)
    kinds: dict[str, list[dict[str, Any]]] = {"retrieval": [], "kv-reduction": []}
    for row in rows:
        if row["task"] != task:
            continue
        score = {"exact": row["score"], "exact_low": row["score_low"], "exact_high": row["score_high"]}
        record = {"task": NEEDLE, "length": row["length"], "depth": row["depth"], "n": row["n"]} | score
        if row.get("method", NONE) in (NONE, None):
            kinds["retrieval"].append(record)
        else:
            budget = {name: row[name] for name in ("method", "budget_of", "kv_fraction")}
            kinds["kv-reduction"].append(budget | record)
    return kinds
