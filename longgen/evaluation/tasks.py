"""Retrieval tasks: prompts of an exact length from held-out text, each with the one right answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from longgen.data.recall import KEYS, chain, haystack, insert, needle, random_value, resolved

# Room for every task's statements and some text between them.
SHORTEST_LENGTH = 192
MULTIKEY_NEEDLES = 4  # RULER's niah_multikey_1 hides four keys and asks for one


@dataclass(frozen=True)
class Sample:
    """A prompt (token ids, uint16) and the answer (token ids) that greedy decoding must produce.

    Prompt and answer together have the length that was asked for.
    """

    prompt: np.ndarray
    answer: np.ndarray


def needle_sample(
    generator: np.random.Generator, text: np.ndarray, length: int, depth: float, distractors: int = 0
) -> Sample:
    """A pass key at ``depth`` (0: start, 1: end) of held-out text, then the question; ``distractors`` other keys."""
    keys = generator.choice(len(KEYS), size=1 + distractors, replace=False)
    statements = [needle(KEYS[key], random_value(generator)) for key in keys]
    asked = statements[0]
    room = length - sum(map(len, statements)) - len(asked.prompt) - len(asked.answer)
    hay = haystack(generator, text, room)
    places = np.append(round(depth * room), generator.integers(room + 1, size=distractors))
    context = insert(hay, places, [statement.tokens for statement in statements])
    return Sample(np.concatenate([context, asked.prompt]), asked.answer)


def multikey_sample(generator: np.random.Generator, text: np.ndarray, length: int, depth: float) -> Sample:
    """Like `needle_sample` with MULTIKEY_NEEDLES keys in the text, one of which is asked for."""
    return needle_sample(generator, text, length, depth, distractors=MULTIKEY_NEEDLES - 1)


def variable_tracking_sample(generator: np.random.Generator, text: np.ndarray, length: int, depth: float) -> Sample:
    """A chain of two variables; the first is set at ``depth``, the second from it at a random later place.

    After RULER's variable tracking (arXiv 2404.06654) with one hop; asked is the value of the second variable.
    """
    first, second = generator.choice(len(KEYS), size=2, replace=False)
    value = random_value(generator)
    statements = chain((KEYS[first], KEYS[second]), value)
    asked = resolved(KEYS[second], value)
    room = length - sum(map(len, statements)) - len(asked.prompt) - len(asked.answer)
    start = round(depth * room)
    places = np.array([start, generator.integers(start, room + 1)])
    context = insert(haystack(generator, text, room), places, [statement.tokens for statement in statements])
    return Sample(np.concatenate([context, asked.prompt]), asked.answer)


# name -> generator of one sample of a given total length with the asked statement at a given depth
TASKS: dict[str, Callable[[np.random.Generator, np.ndarray, int, float], Sample]] = {
    "needle": needle_sample,
    "multikey": multikey_sample,
    "variable-tracking": variable_tracking_sample,
}
