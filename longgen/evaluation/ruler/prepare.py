"""Prompts of the 13 tasks, the same as the official scripts make from the same tokenizer, data and seed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from longgen.errors import ConfigError
from longgen.evaluation.ruler import common_words, frequent_words, niah, question_answering, variable_tracking
from longgen.evaluation.ruler.counting import TokenCounter
from longgen.evaluation.ruler.data import RulerData
from longgen.evaluation.ruler.fitting import Draw
from longgen.evaluation.ruler.tasks import RulerTask, find_task
from longgen.evaluation.samples import Sample
from longgen.strict import require

FAMILIES = {
    "niah": niah.draws,
    "variable_tracking": variable_tracking.draws,
    "common_words_extraction": common_words.draws,
    "freq_words_extraction": frequent_words.draws,
    "qa": question_answering.draws,
}
SHORTEST_LENGTH = 512


def prepare(
    task: str, length: int, count: int, tokenizer: Any, seed: int, data_root: Path | None = None
) -> Iterator[Sample]:
    """Prompts of one task and length.

    Args:
        task: one of `TASKS`.
        length: tokens of prompt and answer, special tokens not counted; the official ``max_seq_length``.
        count: samples; officially 500.
        tokenizer: a Hugging Face tokenizer, that of the model.
        seed: the official ``random_seed``, there 42.
        data_root: folder that holds the official data in ``ruler/`` (docs/ruler.md); None for stand-ins.

    Returns:
        samples as they are drawn. Their ``meta`` has ``stand_in`` (made with stand-in data: not a benchmark's score),
        ``tokens`` (of the prompt) and, where answers have a place, ``depths`` (of the answers, in characters, 0 to 1).

    Raises:
        ConfigError: an unknown task, an impossible length or count, or NLTK is missing.
        ArtifactError: a file of the data is missing or damaged.
    """
    ruler_task = find_task(task)
    check_length(length)
    require(count >= 0, "count", count, "not negative")
    require(0 <= seed < 2**32, "seed", seed, "from 0 to 2^32 - 1")
    return _samples(ruler_task, length, count, TokenCounter(tokenizer), seed, RulerData(data_root))


def check_length(length: int | None) -> int:
    """``length``, if prompts may have it. Raises ConfigError if not."""
    if length is None or length < SHORTEST_LENGTH:
        raise ConfigError(f"length is {length}: allowed is at least {SHORTEST_LENGTH} tokens")
    return length


def _samples(
    task: RulerTask, length: int, count: int, tokens: TokenCounter, seed: int, data: RulerData
) -> Iterator[Sample]:
    for number, draw in enumerate(FAMILIES[task.family](task, length, count, tokens, seed, data)):
        meta = {"stand_in": data.stand_in, "tokens": draw.tokens} | _depths(task, draw)
        yield Sample("ruler", task.name, str(number), draw.prompt, draw.answers, task.max_new_tokens, length, meta)


def _depths(task: RulerTask, draw: Draw) -> dict[str, list[float]]:
    statement = {"niah": ": {}.", "variable_tracking": "VAR {} ="}.get(task.family)
    if statement is None:
        return {}
    places = [draw.prompt.find(statement.format(answer)) for answer in draw.answers]
    return {"depths": [round(place / len(draw.prompt), 4) for place in places]}
