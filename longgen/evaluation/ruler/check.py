"""Whether a task can be asked at a length, before any prompt is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from longgen.errors import ConfigError
from longgen.evaluation.ruler.counting import TokenCounter
from longgen.evaluation.ruler.data import RulerData
from longgen.evaluation.ruler.prepare import FAMILIES, check_length
from longgen.evaluation.ruler.tasks import find_task

QUICK = 8192  # tokens: a task that can be asked at this length can be at a greater one
DOUBLINGS = 6
EXACTLY = 16  # the least length is found to one part in so many


def check(task: str, length: int | None, count: int, tokenizer: Any, seed: int, data_root: Path | None = None) -> int:
    """Read a task's data, and draw prompts to see whether they fit.

    Args:
        task, length, count, tokenizer, seed, data_root: as `longgen.evaluation.ruler.prepare`.

    Returns:
        0 if they do, else a length, near the least, at which they would.

    Raises:
        ConfigError, ArtifactError: as `prepare`, where no other length would help.
    """
    ruler_task, target_length = find_task(task), check_length(length)
    tokens, data = TokenCounter(tokenizer), RulerData(data_root)

    def draw(trial: int) -> None:
        # questions differ in length, and so the least prompts; those of the other tasks hardly do
        samples = count if ruler_task.family == "qa" and trial <= QUICK else min(count, 1)
        for _ in FAMILIES[ruler_task.family](ruler_task, trial, samples, tokens, seed, data):
            pass

    if target_length > QUICK and _works(draw, QUICK):
        return 0
    try:
        draw(target_length)
        return 0
    except ConfigError:
        upper = next((trial for n in range(1, DOUBLINGS + 1) if _works(draw, trial := target_length << n)), None)
        if upper is None:
            raise
    lower = upper // 2
    while upper - lower > upper // EXACTLY:
        middle = (lower + upper) // 2
        lower, upper = (lower, middle) if _works(draw, middle) else (middle, upper)
    return upper


def _works(draw: Callable[[int], None], length: int) -> bool:
    try:
        draw(length)
    except ConfigError:
        return False
    return True
