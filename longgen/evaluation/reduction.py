"""The full model with its KV cache reduced at inference: what the paper compares hybrids with."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from longgen.config import Experiment, require_part
from longgen.errors import ConfigError
from longgen.evaluation.baselines import generate, method_for_budget
from longgen.evaluation.baselines.gates_file import Gates
from longgen.evaluation.greedy import end_tokens
from longgen.evaluation.retrieval import ask
from longgen.evaluation.tasks import Sample
from longgen.names import DUO_ATTENTION
from longgen.planner import experiment_shape
from longgen.planner.model import Model


def evaluate_reductions(
    model: Any, text: np.ndarray, experiment: Experiment, budget_of: str, gates: Gates | None
) -> list[dict[str, Any]]:
    """Retrieval by every method with as many bytes of KV cache as a hybrid keeps, on the prompts that hybrids get.

    Args:
        model: the full variant, extended like the hybrids.
        text: held-out token ids.
        experiment: ``evaluation.kv_reduction`` says which methods, tasks, lengths, and how many samples.
        budget_of: the hybrid.
        gates: of the model, for `duo-attention`.

    Returns:
        records as in docs/results-format.md (kind ``kv-reduction``).

    Raises:
        ConfigError: gates are missing, or the hybrid keeps less than a method needs.
    """
    settings = require_part(experiment.evaluation, "evaluation")
    asked = require_part(settings.kv_reduction, "evaluation.kv_reduction")
    if DUO_ATTENTION in asked.methods and gates is None:
        raise ConfigError(f"methods has {DUO_ATTENTION}: it needs gates, which `longgen gates` learns")
    counts = {task: asked.samples_per_cell if task == "needle" else settings.task_samples for task in asked.tasks}
    lengths = asked.lengths or [experiment.extension.max_length]
    records = []
    for method in asked.methods:
        fields = gates._asdict() if gates is not None and method == DUO_ATTENTION else {}
        answers = _Answers(model, experiment, budget_of, method, fields)
        for record in ask(answers, text, settings, counts, lengths, experiment.seed, f"{method} as {budget_of}"):
            share = {"kv_fraction": answers.kept[record["length"]]}
            records.append({"method": method, "budget_of": budget_of} | record | share)
    return records


@dataclass
class _Answers:
    """What a method answers to samples; ``kept`` gathers the share of the KV cache by length of context."""

    model: Any
    experiment: Experiment
    budget_of: str
    method: str
    fields: dict[str, Any]
    kept: dict[int, float] = field(default_factory=dict)

    def __call__(self, samples: list[Sample]) -> np.ndarray:
        prompts = torch.from_numpy(np.stack([sample.prompt for sample in samples]).astype(np.int64))
        length, count = prompts.shape[1], len(samples[0].answer)
        shape, variants = experiment_shape(self.experiment), map(self.experiment.variant, (self.budget_of, "full"))
        budget = Fraction(*(Model(shape, v.hybrid).kv_cache_bytes(length) for v in variants))
        chosen = method_for_budget(self.method, budget, length, self.model, **self.fields)
        self.kept[length + count] = chosen.kept_bytes / chosen.full_bytes
        # as `greedy_answers` does: end-of-text tokens are none of an answer's
        ends = end_tokens(self.model)
        given = generate(self.model, prompts.to(self.model.device), count, chosen.method, ends, min_new_tokens=count)
        return given.tokens.cpu().numpy()
