"""Scores of a model on short-context tasks, as records of a results file."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from lm_eval.evaluator import evaluate

from longgen.evaluation.short_context.tasks import TaskSet
from longgen.provenance import fingerprint
from longgen.statistics import score_interval


def evaluate_short_context(model: Any, task_set: TaskSet, limit: int | None = None) -> tuple[list[dict[str, Any]], str]:
    """Ask all questions, and score the answers: a mean over samples for every task and metric.

    A group's score is the mean over all samples of its tasks, for metrics that lm-eval weighs so, as MMLU's. Metrics
    that are no means over samples are left out.

    Args:
        model: an lm-eval model, such as `longgen.evaluation.short_context.model.LongGenLM`.
        task_set: what to ask, of `longgen.evaluation.short_context.tasks.load_tasks`.
        limit: questions of every task, the first ones; None for all.

    Returns:
        records of kind ``short-context`` (docs/short-context.md), groups first; and a fingerprint of all prompts.
    """
    evaluation = evaluate(model, {"tasks": task_set.tasks, "groups": task_set.groups}, limit=limit, bootstrap_iters=0)
    scores = {name: _scores(task, evaluation["samples"][name]) for name, task in task_set.tasks.items()}
    shots = {name: task.get_config("num_fewshot") for name, task in task_set.tasks.items()}
    for group in task_set.groups.values():
        members = [task.task_name for task in group.get_all_tasks()]
        scores[group.name] = _pool_members(group, [scores[name] for name in members])
        shots[group.name] = shots[members[0]]
    records = [
        {"task": name, "metric": metric, "num_fewshot": shots[name]}
        | _statistics(values)
        | {"stand_in": task_set.stand_in}
        for name in [*task_set.groups, *sorted(task_set.tasks)]
        for metric, values in scores[name].items()
    ]
    prompts = {name: [sample["prompt_hash"] for sample in samples] for name, samples in evaluation["samples"].items()}
    return records, fingerprint(prompts)


def _scores(task: Any, samples: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Values by metric, of the samples of a task; the metric is named with lm-eval's filter if there is one."""
    scores = defaultdict(list)
    means = [metric for metric, how in task.aggregation().items() if how.__name__ == "mean"]
    for sample in samples:
        for metric in means:
            if metric in sample:
                name = metric if sample["filter"] == "none" else f"{metric},{sample['filter']}"
                scores[name].append(float(sample[metric]))
    return scores


def _pool_members(group: Any, members: list[dict[str, list[float]]]) -> dict[str, list[float]]:
    by_size = {each.metric for each in group.aggregate_metric_list or [] if each.weight_by_size}
    group_values: dict[str, list[float]] = defaultdict(list)
    for scores in members:
        for name, values in scores.items():
            if name.partition(",")[0] in by_size:
                group_values[name] += values
    return group_values


def _statistics(values: list[float]) -> dict[str, Any]:
    low, high = score_interval(values)
    return {"n": len(values), "score": float(np.mean(values)), "score_low": low, "score_high": high}
