"""Retrieval tasks: prompts of an exact length from held-out text, each with the one right answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from longgen.data.synthetic.recall import (
    FREQUENCIES,
    KEYS,
    LISTED_LENGTH,
    PART_SEPARATOR,
    all_values,
    chain,
    common_words,
    different_values,
    haystack,
    insert,
    listed_words,
    needle,
    one_value,
    random_value,
    variable_value,
    word_list,
)
from longgen.data.synthetic.tokenizer import decode_bytes

_QUESTION = common_words(list(KEYS[: len(FREQUENCIES)]))
COMMON_WORDS_LENGTH = len(_QUESTION.prompt) + len(_QUESTION.answer)
# Room for every task's statements and some text between them.
SHORTEST_LENGTH = 192
MULTIKEY_NEEDLES = 4  # RULER's niah_multikey_1 hides four keys and asks for one
MULTIVALUE_VALUES = 4  # RULER's niah_multivalue gives one key four values and asks for all


@dataclass(frozen=True)
class Sample:
    """A prompt (token ids, uint16) and the answer (token ids) that greedy decoding must produce.

    Prompt and answer together have the length that was asked for.
    """

    prompt: np.ndarray
    answer: np.ndarray


def parts_given(said: np.ndarray, answer: np.ndarray) -> list[bool]:
    """Which of an answer's parts occur in what was said, in whatever order. Their share is RULER's score of all but qa.

    Args:
        said: token ids.
        answer: token ids; its parts have PART_SEPARATOR between them.
    """
    text = decode_bytes(said)
    return [part in text for part in decode_bytes(answer).split(PART_SEPARATOR)]


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
    asked = variable_value(KEYS[second], value)
    room = length - sum(map(len, statements)) - len(asked.prompt) - len(asked.answer)
    start = round(depth * room)
    places = np.array([start, generator.integers(start, room + 1)])
    context = insert(haystack(generator, text, room), places, [statement.tokens for statement in statements])
    return Sample(np.concatenate([context, asked.prompt]), asked.answer)


def multivalue_sample(generator: np.random.Generator, text: np.ndarray, length: int, depth: float) -> Sample:
    """MULTIVALUE_VALUES different values of one key, one stated at ``depth``, the others at random places.

    After RULER's niah_multivalue; asked are all of them, in the order in which they stand in the text, so that there is
    one right answer.
    """
    key = KEYS[generator.integers(len(KEYS))]
    values = different_values(generator, MULTIVALUE_VALUES)
    size, question = len(one_value(key, values[0])), all_values(key, values)
    room = length - len(values) * size - len(question.prompt) - len(question.answer)
    hay = haystack(generator, text, room)
    places = np.sort(np.append(round(depth * room), generator.integers(room + 1, size=len(values) - 1)))
    context = insert(hay, places, [one_value(key, value).tokens for value in values])
    return Sample(np.concatenate([context, question.prompt]), question.answer)


def common_words_sample(generator: np.random.Generator, text: np.ndarray, length: int, depth: float) -> Sample:
    """A list of words that fills the context, three of them more frequent than the rest, which are asked for.

    After RULER's lists of common and of frequent words (cwe, fwe): the answer is nowhere, but in all of the context.

    Args:
        generator: of all randomness.
        text: fills what is too short for one more word.
        length: of prompt and answer.
        depth: of no meaning here.
    """
    count, rest = divmod(length - COMMON_WORDS_LENGTH, LISTED_LENGTH)
    words, common = word_list(generator, count)
    question = common_words(common)
    filler = haystack(generator, text, rest)
    return Sample(np.concatenate([filler, listed_words(words), question.prompt]), question.answer)


@dataclass(frozen=True)
class Task:
    """A retrieval task.

    Attributes:
        sample: makes one sample, given a generator of all randomness, held-out token ids, the total length, and the
            depth of what is asked for.
        has_depth: whether that depth means anything; if not, results have none.
    """

    sample: Callable[[np.random.Generator, np.ndarray, int, float], Sample]
    has_depth: bool = True


TASKS: dict[str, Task] = {
    "needle": Task(needle_sample),
    "multikey": Task(multikey_sample),
    "variable-tracking": Task(variable_tracking_sample),
    "multivalue": Task(multivalue_sample),
    "common-words": Task(common_words_sample, has_depth=False),
}
