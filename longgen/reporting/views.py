"""What an experiment's own figures, tables and claims see of its benchmarks: retrieval and KV reductions.

They compare exact match, or the share of an answer that was given, whatever was asked: recall of a model of bytes, the
needles of a pretrained one. A view is made of the records of kind ``benchmark`` as a run is read, and stored nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from longgen.errors import ArtifactError
from longgen.names import NONE
from longgen.records.kinds import KINDS
from longgen.results import Result

RECALL, NEEDLE = "recall", "needle"
# Of the benchmark's two needles the one that is another in every sample, where it was asked.
NEEDLES = ("keys", "fu")
# Parts of an answer of recall, where it has several; its score is their share.
PARTS = {"multivalue": 4, "common-words": 3}
EXACT, SHARE = "exact", "share"
ENDS = ("", "_low", "_high")


def with_views(results: Sequence[Result], folder: Path) -> list[Result]:
    """``results``, and those of kinds ``retrieval`` and ``kv-reduction`` that the benchmarks of an experiment give.

    Nothing is added of stand-in data, and nothing to a run without a plan, which is no experiment.

    Raises:
        ArtifactError: a record of those in ``folder`` lacks a column.
    """
    if not any(result.kind == "plan" for result in results):
        return list(results)
    try:
        return [*results, *_views(results)]
    except KeyError as error:
        path = folder / KINDS["benchmark"].files
        raise ArtifactError(f"{path}: column {error} is missing; see docs/results-format.md") from None


def _views(results: Sequence[Result]) -> Iterator[Result]:
    scores = [result for result in results if result.kind == "benchmark"]
    own = [row for result in scores for row in result.records if not row.get("stand_in")]
    retrieval_benchmark = RECALL if any(row["benchmark"] == RECALL for row in own) else NEEDLE
    tasks = {row["task"] for row in own if row["benchmark"] == retrieval_benchmark}
    if retrieval_benchmark == NEEDLE:
        tasks = {next((name for name in NEEDLES if name in tasks), None)}
    for result in scores:
        rows = [
            row
            for row in result.records
            if row["benchmark"] == retrieval_benchmark and row["task"] in tasks and not row.get("stand_in")
        ]
        for kind, of_reductions in (("retrieval", False), ("kv-reduction", True)):
            records = _cells([row for row in rows if (row.get("method", NONE) != NONE) == of_reductions], of_reductions)
            if records:
                yield replace(result, kind=kind, records=records)


def _cells(rows: Sequence[dict[str, Any]], of_reductions: bool) -> list[dict[str, Any]]:
    """Records of a metric each as one a cell, with ``exact``, ``share``, ``parts`` and ``parts_given``.

    ``parts_given`` has a digit for every sample, how many of the ``parts`` of its answer; missing, with the share,
    where the scores of samples were not written down. Answers of some tasks are a little longer, and their prompts as
    much shorter: a method's ``kv_fraction`` at a length is the largest over tasks.
    """
    kv_fractions: dict[tuple[Any, ...], float] = {}
    for row in rows if of_reductions else ():
        if row["kv_fraction"] is not None:
            at = row["method"], row["budget_of"], row["length"]
            kv_fractions[at] = max(kv_fractions.get(at, 0.0), row["kv_fraction"])
    cells: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        by: tuple[Any, ...] = (row["method"], row["budget_of"]) if of_reductions else ()
        task = NEEDLE if row["benchmark"] == NEEDLE else row["task"]
        cell = cells.setdefault((*by, task, row["length"], row["depth"]), {})
        if not cell:
            cell |= {"task": task} | {name: row[name] for name in ("length", "depth", "n")}
            cell |= (
                {"method": by[0], "budget_of": by[1], "kv_fraction": kv_fractions.get((*by, row["length"]))}
                if of_reductions
                else {}
            )
        parts = PARTS.get(row["task"], 1) if row["benchmark"] == RECALL else 1
        scores = [row[f"score{end}"] for end in ENDS]
        if row["metric"] == EXACT:
            cell |= dict(zip((f"{EXACT}{end}" for end in ENDS), scores, strict=True))
        if row["metric"] == (EXACT if parts == 1 else SHARE):
            cell |= dict(zip((f"{SHARE}{end}" for end in ENDS), scores, strict=True))
            if row["outcomes"] is not None:
                digits = (str(round(parts * each)) for each in row["outcomes"])
                cell |= {"parts": parts, "parts_given": "".join(digits)}
    return list(cells.values())
