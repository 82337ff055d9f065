"""Exact match of greedy answers on the retrieval tasks, decoded with the model's own KV cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from longgen.config import EvaluationSettings
from longgen.evaluation.tasks import TASKS, Sample
from longgen.progress import progress_bar
from longgen.statistics import wilson_interval


@torch.no_grad()
def greedy_answers(model: Any, samples: list[Sample]) -> list[bool]:
    """For samples with prompts of one length: whether each greedy continuation is exactly the answer."""
    prompts = torch.from_numpy(np.stack([sample.prompt for sample in samples]).astype(np.int64)).to(model.device)
    count = len(samples[0].answer)
    generated = model.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=count, min_new_tokens=count, do_sample=False
    )
    answers = generated[:, prompts.shape[1] :].cpu().numpy()
    return [bool((answer == sample.answer).all()) for answer, sample in zip(answers, samples, strict=True)]


def evaluate_retrieval(
    model: Any, text: np.ndarray, settings: EvaluationSettings, seed: int, description: str
) -> list[dict[str, Any]]:
    """Run every task of ``settings`` over lengths x depths.

    Args:
        model: a causal LM with `generate`.
        text: held-out token ids.
        settings: lengths, depths, tasks and sample counts.
        seed: of the prompts; all variants get the same ones.
        description: label of the progress bar.

    Returns:
        records as in docs/results-format.md (kind ``retrieval``), intervals are Wilson 95 %.
    """
    counts = {task: settings.samples_per_cell if task == "needle" else settings.task_samples for task in settings.tasks}
    return ask(partial(greedy_answers, model), text, settings, counts, settings.lengths, seed, description)


def ask(
    answers: Callable[[list[Sample]], list[bool]],
    text: np.ndarray,
    settings: EvaluationSettings,
    counts: dict[str, int],
    lengths: list[int],
    seed: int,
    description: str,
) -> list[dict[str, Any]]:
    """Records of kind ``retrieval`` from ``answers``, which says which samples of one length are answered rightly.

    Args:
        answers: of a batch.
        text: held-out token ids.
        settings: all tasks, depths and the batch size.
        counts: samples per cell of each task that is asked. A cell's first samples are the same, however many.
        lengths: in tokens.
        seed: of the prompts.
        description: label of the progress bar.
    """
    total = len(lengths) * len(settings.depths) * sum(counts.values())
    records = []
    with progress_bar(total, description, "sample") as bar:
        for task, count in counts.items():
            for length in lengths:
                for depth in settings.depths:
                    # a stream per cell: a task's prompts do not change when other cells come or go
                    generator = np.random.default_rng([seed, settings.tasks.index(task), length, round(depth * 1000)])
                    samples = [TASKS[task](generator, text, length, depth) for _ in range(count)]
                    right: list[bool] = []
                    for start in range(0, count, settings.batch_size):
                        part = samples[start : start + settings.batch_size]
                        right += answers(part)
                        bar.update(len(part))
                    low, high = wilson_interval(sum(right), count)
                    cell = {"task": task, "length": length, "depth": depth, "n": count}
                    share = {"exact": sum(right) / count, "exact_low": low, "exact_high": high}
                    records.append(cell | share | {"outcomes": "".join("01"[each] for each in right)})
    return records
