"""Recall, a benchmark of models of bytes: small retrieval tasks in the sentences that such models are trained on.

After the pass key, RULER's needles, variables and common words (`longgen.data.synthetic.recall`). Prompts have an exact
length in bytes, and are made of the held-out text of the run's corpus; each has one right answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from longgen.data.synthetic.corpus import load_corpus
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
from longgen.data.synthetic.vocabulary import EOS_ID
from longgen.data.tokenization import encode_prompt
from longgen.errors import ConfigError
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from longgen.evaluation.summaries import Cell, Summary, means_by_length
from longgen.names import NEEDLE_DEPTHS
from longgen.strict import require

_QUESTION = common_words(list(KEYS[: len(FREQUENCIES)]))
COMMON_WORDS_LENGTH = len(_QUESTION.prompt) + len(_QUESTION.answer)
# Room for every task's statements and some text between them.
SHORTEST_LENGTH = 192


class Question(NamedTuple):
    """A prompt and the one right answer, token ids, uint16; together they have the length that was asked for."""

    prompt: np.ndarray
    answer: np.ndarray


def needle_question(
    generator: np.random.Generator, text: np.ndarray, length: int, depth: float, distractors: int = 0
) -> Question:
    """A pass key at ``depth`` (0: start, 1: end) of held-out text, then the question; ``distractors`` other keys."""
    keys = generator.choice(len(KEYS), size=1 + distractors, replace=False)
    statements = [needle(KEYS[key], random_value(generator)) for key in keys]
    target = statements[0]
    room = length - sum(map(len, statements)) - len(target.prompt) - len(target.answer)
    hay = haystack(generator, text, room)
    places = np.append(round(depth * room), generator.integers(room + 1, size=distractors))
    context = insert(hay, places, [statement.tokens for statement in statements])
    return Question(np.concatenate([context, target.prompt]), target.answer)


def multikey_question(generator: np.random.Generator, text: np.ndarray, length: int, depth: float) -> Question:
    """Like `needle_question` with several keys in the text, one of which is asked for."""
    return needle_question(generator, text, length, depth, distractors=protocol("recall")["multikey"]["needles"] - 1)


def variable_tracking_question(generator: np.random.Generator, text: np.ndarray, length: int, depth: float) -> Question:
    """A chain of two variables; the first is set at ``depth``, the second from it at a random later place.

    After RULER's variable tracking (arXiv 2404.06654) with one hop; asked is the value of the second variable.
    """
    first, second = generator.choice(len(KEYS), size=2, replace=False)
    value = random_value(generator)
    statements = chain((KEYS[first], KEYS[second]), value)
    question = variable_value(KEYS[second], value)
    room = length - sum(map(len, statements)) - len(question.prompt) - len(question.answer)
    start = round(depth * room)
    places = np.array([start, generator.integers(start, room + 1)])
    context = insert(haystack(generator, text, room), places, [statement.tokens for statement in statements])
    return Question(np.concatenate([context, question.prompt]), question.answer)


def multivalue_question(generator: np.random.Generator, text: np.ndarray, length: int, depth: float) -> Question:
    """Several different values of one key, one stated at ``depth``, the others at random places.

    After RULER's niah_multivalue; asked are all of them, in the order in which they stand in the text, so that there is
    one right answer.
    """
    key = KEYS[generator.integers(len(KEYS))]
    values = different_values(generator, protocol("recall")["multivalue"]["values"])
    size, question = len(one_value(key, values[0])), all_values(key, values)
    room = length - len(values) * size - len(question.prompt) - len(question.answer)
    hay = haystack(generator, text, room)
    places = np.sort(np.append(round(depth * room), generator.integers(room + 1, size=len(values) - 1)))
    context = insert(hay, places, [one_value(key, value).tokens for value in values])
    return Question(np.concatenate([context, question.prompt]), question.answer)


def common_words_question(generator: np.random.Generator, text: np.ndarray, length: int, depth: float) -> Question:
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
    return Question(np.concatenate([filler, listed_words(words), question.prompt]), question.answer)


@dataclass(frozen=True)
class Task:
    """A retrieval task.

    Attributes:
        question: makes one, given a generator of all randomness, held-out token ids, the total length, and the depth of
            what is asked for.
        has_depth: whether that depth means anything; if not, results have none.
    """

    question: Callable[[np.random.Generator, np.ndarray, int, float], Question]
    has_depth: bool = True


TASKS: dict[str, Task] = {
    "needle": Task(needle_question),
    "multikey": Task(multikey_question),
    "variable-tracking": Task(variable_tracking_question),
    "multivalue": Task(multivalue_question),
    "common-words": Task(common_words_question, has_depth=False),
}


def prepare(
    task: str,
    length: int,
    count: int,
    tokenizer: Any,
    seed: int,
    data_root: Path | None = None,
    depths: Sequence[float] = NEEDLE_DEPTHS,
) -> Iterator[Sample]:
    """Prompts of one length, ``count`` for every depth; a task without depths has as many in all.

    Documents of the corpus end with an end-of-text token, also within prompts. Bytes that are no UTF-8, where text was
    cut within a character, are question marks.

    Args:
        task: of `TASKS`.
        length: tokens, which are bytes, of prompt and answer.
        count: samples of every depth; fewer are the first of them.
        tokenizer: that of the corpus.
        seed: of all randomness.
        data_root: folder of a corpus (`longgen prepare --stage corpus`), whose held-out text is used.
        depths: 0 is the beginning, 1 the end.

    Raises:
        ConfigError: an unknown task, another tokenizer, no corpus, or a length that is too short or too long for it.
        ArtifactError: the corpus is missing or damaged.
    """
    if least := check(task, length, count, tokenizer, seed, data_root, depths):
        raise ConfigError(f"length is {length}: allowed are {least} tokens or more")
    text, definition = _heldout(data_root), TASKS[task]
    places: list[float | None] = [*depths] if definition.has_depth else [None]
    for depth in places:
        place = depth or 0.0
        # a stream per cell: a task's prompts do not change when other cells come or go
        generator = np.random.default_rng([seed, list(TASKS).index(task), length, round(place * 1000)])
        for number in range(count if definition.has_depth else count * len(depths)):
            prompt, answer = definition.question(generator, text, length, place)
            yield Sample(
                benchmark="recall",
                task=task,
                id=f"{number}" if depth is None else f"{depth:g}-{number}",
                prompt=_as_text(prompt, tokenizer),
                answers=decode_bytes(answer).split(PART_SEPARATOR),
                max_new_tokens=len(answer),
                length=length,
                # an end of text is no part of an answer
                meta={"stand_in": False, "special_tokens": True, "min_new_tokens": len(answer)}
                | ({} if depth is None else {"depth": depth}),
            )


def check(
    task: str,
    length: int,
    count: int,
    tokenizer: Any,
    seed: int,
    data_root: Path | None = None,
    depths: Sequence[float] = NEEDLE_DEPTHS,
) -> int:
    """A length that would do where the given one is too short, or 0. Raises what else `prepare` raises."""
    require(task in TASKS, "task", task, ", ".join(TASKS))
    require(length is not None, "length", length, "a number of tokens")
    require_bytes(tokenizer)
    if length < SHORTEST_LENGTH:
        return SHORTEST_LENGTH
    available = len(_heldout(data_root))
    require(length < available, "length", length, f"less than the {available} tokens of held-out text")
    return 0


def score(sample: Sample, prediction: str) -> dict[str, float]:
    """Scores of an answer, 0 to 1.

    Returns:
        ``exact``: it is the right one. Where that has several parts also ``share``, of them that occur in the answer in
        whatever order: RULER's score of all its tasks but qa.
    """
    scores = {"exact": float(prediction == PART_SEPARATOR.join(sample.answers))}
    if len(sample.answers) > 1:
        scores["share"] = sum(part in prediction for part in sample.answers) / len(sample.answers)
    return scores


def summarise(means: Mapping[Cell, float]) -> list[Summary]:
    """Means over depths of every length, and over all of them, by task and metric."""
    return means_by_length(means)


def require_bytes(tokenizer: Any) -> None:
    """Raise ConfigError unless ``tokenizer`` is `save_byte_tokenizer`'s, which a corpus is made with."""
    text = "a\n\u00e9"
    expected = [*text.encode(), EOS_ID]
    same = tokenizer.eos_token_id == EOS_ID and encode_prompt(tokenizer, text + tokenizer.eos_token, True) == expected
    require(same, "tokenizer", tokenizer.name_or_path, "that of a corpus, of `longgen prepare`, a token for every byte")


def _heldout(corpus: Path | None) -> np.ndarray:
    if corpus is None:
        raise ConfigError("data_root is None: allowed is the folder of a corpus, of `longgen prepare --stage corpus`")
    return load_corpus(corpus).heldout


def _as_text(tokens: np.ndarray, tokenizer: Any) -> str:
    """What ``tokenizer`` reads as as many tokens: these, but for those that no text stands for."""
    special_token = re.compile("|".join(map(re.escape, tokenizer.all_special_tokens)))
    parts = []
    for part in np.split(tokens, np.flatnonzero(tokens == EOS_ID)):
        ends = int(len(part) > 0 and part[0] == EOS_ID)
        text = part[ends:].astype(np.uint8).tobytes().decode("utf-8", "surrogateescape")
        text = re.sub("[\udc80-\udcff]", "?", text)
        text = special_token.sub(lambda match: "?" + match[0][1:], text)  # the text of a page, and not meant
        parts.append(tokenizer.eos_token * ends + text)
    return "".join(parts)
