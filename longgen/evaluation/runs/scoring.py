"""Last step of a run: scores of the answers, with intervals, as records of a results file."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from longgen.errors import ArtifactError
from longgen.evaluation.benchmarks import Benchmark
from longgen.evaluation.runs.predict import answers_folder, read_answers
from longgen.evaluation.runs.prompts import PromptFile, prompt_hash
from longgen.statistics import score_interval


def score_answers(chosen: Benchmark, prompts: PromptFile, folder: Path) -> list[dict[str, Any]]:
    """Records of kind ``benchmark`` (docs/results-format.md): a mean over samples for every metric, and depth if any.

    Args:
        chosen: the benchmark.
        prompts: of one task at one length.
        folder: of the model's answers.

    Raises:
        ArtifactError: prompts are not answered yet.
    """
    answers = read_answers(answers_folder(folder, prompts))
    scores: dict[tuple[float | None, str], list[float]] = defaultdict(list)
    missing = 0
    for sample in prompts:
        answer = answers.get(sample.id)
        if answer is None or answer["prompt"] != prompt_hash(sample):
            missing += 1
            continue
        task, length = sample.task, sample.length
        for metric, value in chosen.score(sample, answer["prediction"]).items():
            scores[sample.meta.get("depth"), metric].append(value)
    if missing:
        raise ArtifactError(
            f"{answers_folder(folder, prompts)}: {missing} of {prompts.samples} prompts are not answered: "
            "`longgen benchmark predict` goes on where it was"
        )
    records = []
    for (depth, metric), values in scores.items():
        low, high = score_interval(values)
        place = {"benchmark": chosen.name, "task": task, "length": length, "depth": depth, "metric": metric}
        result = {"n": len(values), "score": float(np.mean(values)), "score_low": low, "score_high": high}
        records.append(place | result | {"stand_in": prompts.stand_in})
    return records
