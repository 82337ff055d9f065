"""The benchmarks by name: which tasks they have, how their prompts are made, and how answers are scored."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from longgen.errors import ConfigError
from longgen.evaluation.samples import Sample
from longgen.evaluation.summaries import Summarise


@dataclass(frozen=True)
class Benchmark:
    """One benchmark, as its module defines it.

    Attributes:
        name: as in `BENCHMARKS`.
        tasks: that it has.
        prepare: (task, length, count, tokenizer, seed, data_root) -> samples; `WITH_DEPTHS` take ``depths`` too.
        check: the same -> 0, or a length that would do where the given one is too short; raises what ``prepare`` would.
        score: (sample, prediction) -> scores by metric, 0 to 1.
        summarise: its own averages.
    """

    name: str
    tasks: tuple[str, ...]
    prepare: Callable[..., Iterator[Sample]]
    check: Callable[..., int]
    score: Callable[[Sample, str], dict[str, float]]
    summarise: Summarise


# name -> module with TASKS, prepare, score and summarise, and check where calling prepare is not enough; imported when
# it is asked for
BENCHMARKS = {
    "recall": "longgen.evaluation.recall",
    "needle": "longgen.evaluation.needle",
    "ruler": "longgen.evaluation.ruler",
    "babilong": "longgen.evaluation.babilong",
    "longbench": "longgen.evaluation.longbench",
}
# what is asked for stands at a depth of their prompts, 0 to 1
WITH_DEPTHS = ("recall", "needle")


def benchmark(name: str) -> Benchmark:
    """The benchmark called ``name``. Raises ConfigError if there is none."""
    if name not in BENCHMARKS:
        raise ConfigError(f"benchmark is {name!r}: allowed are {', '.join(BENCHMARKS)}")
    module = importlib.import_module(BENCHMARKS[name])

    def score(sample: Sample, prediction: str) -> dict[str, float]:
        scores = module.score(sample, prediction)
        return scores if isinstance(scores, dict) else {"score": scores}

    def check(*arguments: Any, **options: Any) -> int:
        module.prepare(*arguments, **options)  # which raises before its first sample
        return 0

    check_function = getattr(module, "check", check)
    return Benchmark(name, tuple(module.TASKS), module.prepare, check_function, score, module.summarise)


def check_tasks(benchmark: Benchmark, tasks: list[str]) -> list[str]:
    """``tasks``, or all of the benchmark's if there are none. Raises ConfigError for one that it has not."""
    for task in tasks:
        if task not in benchmark.tasks:
            raise ConfigError(f"task is {task!r}: allowed with {benchmark.name} are {', '.join(benchmark.tasks)}")
    return tasks or list(benchmark.tasks)
