"""A prompt of a benchmark, with all that its scorer needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One question, as plain data.

    Attributes:
        benchmark: a name in `longgen.evaluation.benchmarks.BENCHMARKS`.
        task: its name in that benchmark.
        id: unique within benchmark, task and length.
        prompt: text as the benchmark defines it; what a tokenizer adds by itself (BOS) is not in it.
        answers: right ones; the benchmark says whether all are wanted or one.
        max_new_tokens: the benchmark's limit for the answer.
        length: tokens that prompt and answer were made to fit in; None where a prompt has its natural length.
        meta: what else the scorer or a table needs, as plain data: depth of a needle, classes, language, bucket.
            ``stop``: text that ends an answer; ``min_new_tokens``: so many are none that end it; ``special_tokens``:
            those that the prompt spells are meant as such.
    """

    benchmark: str
    task: str
    id: str
    prompt: str
    answers: list[str]
    max_new_tokens: int
    length: int | None = None
    meta: dict[str, Any] = field(default_factory=dict)
