"""Needles for the full model with its KV cache reduced at inference: what the paper compares hybrids with."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch

from longgen.config import Experiment, needed
from longgen.evaluation.baselines import generate, method_for_budget
from longgen.evaluation.retrieval import ask
from longgen.evaluation.tasks import Sample
from longgen.planner import experiment_shape, kv_cache_bytes

TASK = "needle"


def evaluate_reduction(
    model: Any, text: np.ndarray, experiment: Experiment, method: str, description: str
) -> list[dict[str, Any]]:
    """Exact match with as many bytes of KV cache as a hybrid keeps, on the prompts that the hybrids get.

    Args:
        model: the full variant, extended like the hybrids.
        text: held-out token ids.
        experiment: ``evaluation.kv_reduction`` says whose budget, at which lengths, and how many samples.
        method: a name in `longgen.evaluation.baselines.METHODS`.
        description: label of the progress bar.

    Returns:
        records as in docs/results-format.md (kind ``kv-reduction``).
    """
    settings = needed(experiment.evaluation, "evaluation")
    asked = needed(settings.kv_reduction, "evaluation.kv_reduction")
    shape, hybrid, full = experiment_shape(experiment), experiment.variant(asked.budget_of), experiment.variant("full")
    kept: dict[int, float] = {}

    def answers(samples: list[Sample]) -> list[bool]:
        prompts = torch.from_numpy(np.stack([sample.prompt for sample in samples]).astype(np.int64)).to(model.device)
        length, count = prompts.shape[1], len(samples[0].answer)
        budget = Fraction(
            *(kv_cache_bytes(shape, v.layout, v.pattern, length, bytes_per_value=4) for v in (hybrid, full))
        )
        chosen = method_for_budget(method, budget, length, model.config, bytes_per_value=4)
        kept[length + count] = chosen.kept_bytes / chosen.full_bytes
        new = generate(model, prompts, count, chosen.method).tokens.cpu().numpy()
        return [bool((answer == sample.answer).all()) for answer, sample in zip(new, samples, strict=True)]

    lengths = asked.lengths or [experiment.extension.max_length]
    records = ask(answers, text, settings, {TASK: asked.samples_per_cell}, lengths, experiment.seed, description)
    described = {"method": method, "budget_of": asked.budget_of}
    return [described | record | {"kv_fraction": kept[record["length"]]} for record in records]
