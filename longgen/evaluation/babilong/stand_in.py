"""Stand-in records in BABILong's schema: hand-written facts, hidden in text made here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
import yaml

from longgen.data.tokenization import TextEncoder
from longgen.evaluation.babilong.records import BabilongRecord
from longgen.strict import require


@functools.cache
def _text() -> dict[str, Any]:
    return yaml.safe_load(resources.files("longgen.evaluation.babilong").joinpath("stand_in.yaml").read_text("utf-8"))


def stand_in_records(
    task: str, length: int, size: Callable[[BabilongRecord], int], tokenizer: Any, seed: int
) -> list[BabilongRecord]:
    """One record for each hand-written story of a task.

    Facts keep their order and stand at random places between sentences, as in the benchmark.

    Args:
        task: of the benchmark.
        length: ``size`` of the records is at most this, and less by a sentence at most; 0: facts alone.
        size: tokens that a record's prompt and answer take.
        tokenizer: that ``size`` counts with.
        seed: of sentences and places.

    Raises:
        ConfigError: ``length`` is too short.
    """
    encode = TextEncoder(tokenizer)
    records = []
    for number, story in enumerate(_text()["stories"][task]):
        generator = np.random.default_rng([seed, length, number])
        facts = story["facts"].splitlines()
        bare = BabilongRecord(" ".join(facts), story["question"], str(story["target"]))
        records.append(_hidden(facts, bare, length, size, encode, generator) if length else bare)
    return records


def filler_sentence(generator: np.random.Generator) -> str:
    """A sentence about nobody and nothing that a task asks about."""
    words = (part[generator.integers(len(part))] for part in _text()["filler"])
    return " ".join(words) + "."


def _hidden(
    facts: list[str],
    bare: BabilongRecord,
    length: int,
    size: Callable[[BabilongRecord], int],
    encode: TextEncoder,
    generator: np.random.Generator,
) -> BabilongRecord:
    tokens = size(bare)
    require(tokens <= length, "length", length, f"{tokens} tokens or more with this tokenizer")
    sentences: list[str] = []
    while tokens <= length:
        sentences.append(filler_sentence(generator))
        tokens += len(encode(" " + sentences[-1]))
    # the last one is too many; the sum of the parts may be off where a tokenizer joins across sentences
    while True:
        sentences.pop()
        places = np.sort(generator.integers(len(sentences) + 1, size=len(facts)))
        pieces = list(sentences)
        for place, fact in reversed(list(zip(places, facts, strict=True))):
            pieces.insert(place, fact)
        record = BabilongRecord(" ".join(pieces), bare.question, bare.target)
        if not sentences or size(record) <= length:
            return record
