"""Scores of greedy answers on the retrieval tasks, decoded with the model's own KV cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from longgen.config import EvaluationSettings
from longgen.evaluation.greedy import greedy_decoding
from longgen.evaluation.tasks import TASKS, Sample, parts_given
from longgen.progress import progress_bar
from longgen.statistics import score_interval


@torch.no_grad()
def greedy_answers(model: Any, samples: list[Sample]) -> np.ndarray:
    """For samples of one task and length: the greedy continuations, token ids [samples, tokens of an answer].

    All have as many tokens as the right answer: end-of-text tokens are none of them.

    Raises:
        ArtifactError: the model's scores are no numbers.
    """
    prompts = torch.from_numpy(np.stack([sample.prompt for sample in samples]).astype(np.int64)).to(model.device)
    count = len(samples[0].answer)
    with greedy_decoding(model) as checks:
        generated = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=count,
            min_new_tokens=count,
            logits_processor=checks,
        )
    return generated[:, prompts.shape[1] :].cpu().numpy()


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
        records as in docs/results-format.md (kind ``retrieval``), intervals are those of `score_interval`.
    """
    counts = {task: settings.samples_per_cell if task == "needle" else settings.task_samples for task in settings.tasks}
    return ask(partial(greedy_answers, model), text, settings, counts, settings.lengths, seed, description)


def ask(
    answers: Callable[[list[Sample]], np.ndarray],
    text: np.ndarray,
    settings: EvaluationSettings,
    counts: dict[str, int],
    lengths: list[int],
    seed: int,
    description: str,
) -> list[dict[str, Any]]:
    """Records of kind ``retrieval`` from ``answers``, which gives what was answered to samples of one length.

    Args:
        answers: of a batch: token ids [samples, tokens of an answer].
        text: held-out token ids.
        settings: all tasks, depths and the batch size.
        counts: samples per cell of each task that is asked; a task without depths gets those of all cells at once. A
            cell's first samples are the same, however many.
        lengths: in tokens.
        seed: of the prompts.
        description: label of the progress bar.
    """
    total = len(lengths) * len(settings.depths) * sum(counts.values())
    records = []
    with progress_bar(total, description, "sample") as bar:
        for name, per_depth in counts.items():
            task = TASKS[name]
            depths: list[float | None] = [*settings.depths] if task.has_depth else [None]
            count = per_depth if task.has_depth else per_depth * len(settings.depths)
            for length in lengths:
                for depth in depths:
                    place = depth or 0.0
                    # a stream per cell: a task's prompts do not change when other cells come or go
                    generator = np.random.default_rng([seed, settings.tasks.index(name), length, round(place * 1000)])
                    samples = [task.sample(generator, text, length, place) for _ in range(count)]
                    said: list[np.ndarray] = []
                    for start in range(0, count, settings.batch_size):
                        part = samples[start : start + settings.batch_size]
                        said += [*answers(part)]
                        bar.update(len(part))
                    cell = {"task": name, "length": length, "depth": depth, "n": count}
                    records.append(cell | _scores(said, samples))
    return records


def _scores(said: list[np.ndarray], samples: list[Sample]) -> dict[str, float | str]:
    """Exact match and the share of an answer's parts, means over samples with their intervals; and what each gave."""
    pairs = [(answer, sample.answer) for answer, sample in zip(said, samples, strict=True)]
    exact = [float(np.array_equal(answer, right)) for answer, right in pairs]
    given = [parts_given(answer, right) for answer, right in pairs]
    shares = [sum(parts) / len(parts) for parts in given]
    (parts,) = {len(each) for each in given}  # a task's answers have equally many
    scores: dict[str, float | str] = {"parts": parts, "outcomes": "".join(str(sum(each)) for each in given)}
    for name, values in (("exact", exact), ("share", shares)):
        low, high = score_interval(values)
        scores |= {name: sum(values) / len(values), f"{name}_low": low, f"{name}_high": high}
    return scores
