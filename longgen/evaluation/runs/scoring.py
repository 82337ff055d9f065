"""Last step of a run: scores of the answers and the benchmarks' own averages, as records of results files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from longgen.errors import ArtifactError
from longgen.evaluation.benchmarks import Benchmark
from longgen.evaluation.runs.predict import answers_folder, read_answers
from longgen.evaluation.runs.prompts import PromptFile, prompt_hash
from longgen.evaluation.summaries import Cell, summary_intervals
from longgen.statistics import score_interval


@dataclass
class CellScores:
    """Scores of a benchmark's samples by cell.

    Attributes:
        scores: 0 to 1.
        kv_fractions: share of the full KV cache that was kept, where it was measured.
        stand_ins: cells made of stand-in data.
    """

    scores: dict[Cell, list[float]] = field(default_factory=lambda: defaultdict(list))
    kv_fractions: dict[Cell, list[float]] = field(default_factory=lambda: defaultdict(list))
    stand_ins: set[Cell] = field(default_factory=set)


def score_answers(benchmark: Benchmark, files: Iterable[PromptFile], folder: Path) -> CellScores:
    """Score the answers to all prompts.

    Args:
        benchmark: the benchmark whose they are.
        files: its prompts; each of one task at one length.
        folder: of the model's answers.

    Raises:
        ArtifactError: prompts are not answered yet.
    """
    cell_scores = CellScores()
    for prompts in files:
        answers = read_answers(answers_folder(folder, prompts))
        missing = 0
        for sample in prompts:
            answer = answers.get(sample.id)
            if answer is None or answer["prompt"] != prompt_hash(sample):
                missing += 1
                continue
            for metric, value in benchmark.score(sample, answer["prediction"]).items():
                cell = Cell(sample.task, sample.length, sample.meta.get("depth"), metric)
                cell_scores.scores[cell].append(value)
                if answer["kv_fraction"] is not None:
                    cell_scores.kv_fractions[cell].append(answer["kv_fraction"])
                if prompts.stand_in:
                    cell_scores.stand_ins.add(cell)
        if missing:
            raise ArtifactError(
                f"{answers_folder(folder, prompts)}: {missing} of {prompts.samples} prompts are not answered: "
                "`longgen benchmark predict` goes on where it was"
            )
    return cell_scores


def score_records(benchmark: Benchmark, cell_scores: CellScores) -> list[dict[str, Any]]:
    """Records of kind ``benchmark`` (docs/results-format.md), without who answered: a mean over samples per cell."""
    records = []
    for cell, values in cell_scores.scores.items():
        low, high = score_interval(values)
        result: dict[str, Any] = {
            "n": len(values),
            "score": float(np.mean(values)),
            "score_low": low,
            "score_high": high,
        }
        result["outcomes"] = values
        details = {
            "stand_in": cell in cell_scores.stand_ins,
            "kv_fraction": _mean(cell_scores.kv_fractions.get(cell, [])),
        }
        records.append({"benchmark": benchmark.name, **cell._asdict(), **result, **details})
    return records


def summary_records(benchmark: Benchmark, cell_scores: CellScores) -> list[dict[str, Any]]:
    """Records of kind ``benchmark-summary``, without who answered: the benchmark's own averages."""
    records = []
    for each in summary_intervals(cell_scores.scores, benchmark.summarise):
        fractions = [share for cell in each.summary.cells for share in cell_scores.kv_fractions.get(cell, [])]
        what = {"benchmark": benchmark.name, "summary": each.summary.name, "length": each.summary.length, "n": each.n}
        value = {"value": each.summary.value, "value_low": each.low, "value_high": each.high}
        stand_in = any(cell in cell_scores.stand_ins for cell in each.summary.cells)
        details = {"unit": each.summary.unit, "stand_in": stand_in, "kv_fraction": _mean(fractions)}
        records.append(what | value | details)
    return records


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
