"""Kinds of training documents: plain text, and synthetic ones from which a tiny model learns to retrieve.

Each makes one row: token ids and, for every token, how much predicting it counts in the loss. What cannot be predicted
(random bytes, values that are stated for the first time) counts nothing: its gradient would be noise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from longgen.data.synthetic.recall import (
    FREQUENCIES,
    KEYS,
    LISTED_LENGTH,
    SHORTEST_LIST,
    VALUE_DIGITS,
    Statement,
    all_values,
    chain,
    common_words,
    different_values,
    haystack,
    insert,
    listed_words,
    needle,
    one_value,
    pair,
    random_value,
    variable_value,
    word_list,
)
from longgen.data.synthetic.tokenizer import encode_bytes

# Our choices of loss weights.
TEXT_WEIGHT = 0.03  # within synthetic documents
PLAIN_TEXT_WEIGHT = 0.3
ANSWER_WEIGHT = 4.0

Row = tuple[np.ndarray, np.ndarray]


def text_document(generator: np.random.Generator, text: np.ndarray, length: int) -> Row:
    """Consecutive text."""
    return haystack(generator, text, length), np.full(length, PLAIN_TEXT_WEIGHT)


def repeats_document(generator: np.random.Generator, text: np.ndarray, length: int) -> Row:
    """A short segment of random characters repeated over the whole row: what induction heads form on.

    Only the repetitions count. Random segments form them sooner than text, where guessing words is an easier way to
    lower the loss (our observation).
    """
    period = int(generator.integers(8, min(32, length // 2) + 1))
    segment = generator.integers(32, 96, size=period)
    weights = np.ones(length)
    weights[:period] = 0.0
    return np.resize(segment, length), weights


def _weights(statement: Statement, is_question: bool, wording: slice) -> np.ndarray:
    """Weights of a statement: its wording counts as text, its key and a new value nothing, a question's answer much."""
    weights = np.zeros(len(statement))
    weights[wording] = TEXT_WEIGHT
    weights[len(statement) - len(statement.end) :] = TEXT_WEIGHT
    if is_question:
        start = len(statement.prompt)
        weights[start : start + len(statement.answer)] = ANSWER_WEIGHT
    return weights


def _assemble(
    generator: np.random.Generator,
    text: np.ndarray,
    length: int,
    statements: list[tuple[Statement, bool]],
    questions: list[tuple[Statement, bool]],
    wording: slice,
) -> Row:
    """Text with ``statements`` scattered in it in order and ``questions`` at its end; each (statement, is_question)."""
    room = length - sum(len(statement) for statement, _ in statements + questions)
    hay = haystack(generator, text, room)
    places = np.sort(generator.integers(room + 1, size=len(statements)))
    tokens = insert(hay, places, [statement.tokens for statement, _ in statements])
    weights = insert(
        np.full(room, TEXT_WEIGHT), places, [_weights(s, is_question, wording) for s, is_question in statements]
    )
    tail = [statement.tokens for statement, _ in questions]
    tail_weights = [_weights(s, is_question, wording) for s, is_question in questions]
    return np.concatenate([tokens, *tail]), np.concatenate([weights, *tail_weights])


def _repeat_lines(
    generator: np.random.Generator, text: np.ndarray, length: int, lines: list[Statement], wording: slice
) -> Row:
    """``lines`` over and over in random order, with scraps of text between them; every repetition is a question."""
    # made once: a long row repeats them thousands of times
    pieces = [(line.tokens, _weights(line, False, wording), _weights(line, True, wording)) for line in lines]
    tokens: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    seen: set[int] = set()
    size = 0
    while size < length:
        if generator.random() < 0.3:
            scrap = haystack(generator, text, int(generator.integers(1, 13)))
            tokens.append(scrap)
            weights.append(np.full(len(scrap), TEXT_WEIGHT))
            size += len(scrap)
        index = int(generator.integers(len(lines)))
        line, first_weights, question_weights = pieces[index]
        tokens.append(line)
        weights.append(question_weights if index in seen else first_weights)
        seen.add(index)
        size += len(line)
    return np.concatenate(tokens)[:length], np.concatenate(weights)[:length]


def pairs_document(generator: np.random.Generator, text: np.ndarray, length: int) -> Row:
    """Lines ``KEY is VALUE.`` of one to four keys over and over, with scraps of text between them.

    Every repeated key is a question. So dense are they that looking up a key and copying its value is learned several
    times sooner than from any other document that was tried (our observation).
    """
    count = int(generator.choice([1, 1, 2, 2, 3, 4]))
    keys = generator.choice(len(KEYS), size=count, replace=False)
    lines = [pair(KEYS[key], random_value(generator)) for key in keys]
    return _repeat_lines(generator, text, length, lines, slice(len(KEYS[0]), len(lines[0].prompt)))


def lookups_document(generator: np.random.Generator, text: np.ndarray, length: int) -> Row:
    """Like `pairs_document`, with keys and values closer together: half of the rows as close as ``a7b3``.

    From pairs alone a model learns to copy a value, not whose: the key is eight characters before the value, of which
    it decides the first digit alone. Where they touch, keys are told apart soon, and from there at larger distances
    (our observation, with ``model.residual_initializer_range: 0``).
    """
    count = int(generator.choice([1, 2, 2, 3, 3, 4]))
    closest = generator.random() < 0.5
    initial = closest or generator.random() < 0.4
    between = "" if closest else str(generator.choice(["", " ", ": ", " is "]))
    end = "" if closest else str(generator.choice([" ", "\n", ".\n"]))
    digits = 1 if closest else int(generator.integers(1, VALUE_DIGITS + 1))
    keys = [KEYS[index] for index in generator.choice(len(KEYS), size=count, replace=False)]
    keys = [key[0] for key in keys] if initial else keys
    lines = [
        Statement(encode_bytes(key + between), encode_bytes(random_value(generator)[:digits]), encode_bytes(end))
        for key in keys
    ]
    return _repeat_lines(generator, text, length, lines, slice(len(keys[0]), len(lines[0].prompt)))


NEEDLE_LENGTH = len(needle(KEYS[0], "0" * VALUE_DIGITS))
_NEEDLE_WORDING = slice(0, len("\nThe pass key of "))
_VARIABLE_WORDING = slice(0, len("\nVAR "))


def _pass_keys(generator: np.random.Generator, count: int) -> list[Statement]:
    keys = generator.choice(len(KEYS), size=count, replace=False)
    return [needle(KEYS[key], random_value(generator)) for key in keys]


def needles_document(generator: np.random.Generator, text: np.ndarray, length: int) -> Row:
    """Up to four needles scattered in text, with questions for them at the end in random order."""
    slots = length // NEEDLE_LENGTH
    count = int(generator.integers(1, max(1, min(4, int(slots * 0.45))) + 1))
    needles = _pass_keys(generator, count)
    order = generator.permutation(count)[: max(1, min(count, slots - count))]
    statements = [(statement, False) for statement in needles]
    return _assemble(generator, text, length, statements, [(needles[i], True) for i in order], _NEEDLE_WORDING)


def variables_document(generator: np.random.Generator, text: np.ndarray, length: int) -> Row:
    """Chains of two variables scattered in text, the second assigned from the first, and questions for the values."""
    size = len(chain(("name",), "0" * VALUE_DIGITS)[0])
    count = min(4, length // (4 * size))
    if not count:  # a row too short for a chain and its question
        return text_document(generator, text, length)
    names = generator.permutation(len(KEYS))[: 2 * count].reshape(count, 2)
    statements: list[tuple[Statement, bool]] = []
    questions: list[tuple[Statement, bool]] = []
    for first, second in names.tolist():
        value = random_value(generator)
        statements += [(statement, False) for statement in chain((KEYS[first], KEYS[second]), value)]
        name = KEYS[second if generator.random() < 0.7 else first]
        questions.append((variable_value(name, value), True))
    order = generator.permutation(count).tolist()
    return _assemble(generator, text, length, statements, [questions[i] for i in order], _VARIABLE_WORDING)


# Tokens of a value and of a question for it alone; those of several values share one.
_VALUE_LENGTH = sum(map(len, (one_value(KEYS[0], "0" * VALUE_DIGITS), all_values(KEYS[0], ["0" * VALUE_DIGITS]))))
_VALUE_WORDING = slice(0, len("\nA value of "))
_MOST_VALUES = 4  # of a key


def values_document(generator: np.random.Generator, text: np.ndarray, length: int) -> Row:
    """Several values of up to four keys scattered in text, with questions for all values of every key at the end."""
    slots = length // _VALUE_LENGTH
    if not slots:  # a row too short for a value and its question
        return text_document(generator, text, length)
    count = int(generator.integers(1, min(4, slots) + 1))
    most = min(_MOST_VALUES, slots // count)
    keys = generator.choice(len(KEYS), size=count, replace=False).tolist()
    owners = np.repeat(keys, generator.integers(1, most + 1, size=count))
    values_by_key: dict[int, list[str]] = {key: [] for key in keys}
    statements = []
    for key, value in zip(
        generator.permutation(owners).tolist(), different_values(generator, len(owners)), strict=True
    ):
        values_by_key[key].append(value)
        statements.append((one_value(KEYS[key], value), False))
    questions = [(all_values(KEYS[key], values), True) for key, values in values_by_key.items()]
    return _assemble(generator, text, length, statements, questions, _VALUE_WORDING)


_COMMON_LENGTH = len(common_words(list(KEYS[: len(FREQUENCIES)])))


def words_document(generator: np.random.Generator, text: np.ndarray, length: int) -> Row:
    """A list of words as long as the row, and at the end the question which are the most frequent."""
    count, rest = divmod(length - _COMMON_LENGTH, LISTED_LENGTH)
    if count < SHORTEST_LIST:
        return text_document(generator, text, length)
    words, common = word_list(generator, count)
    question = common_words(common)
    tokens = [haystack(generator, text, rest), listed_words(words), question.tokens]
    weights = [np.full(rest, TEXT_WEIGHT), np.zeros(count * LISTED_LENGTH)]
    wording = slice(0, len(question.prompt))
    return np.concatenate(tokens), np.concatenate([*weights, _weights(question, True, wording)])


def scattered_document(generator: np.random.Generator, text: np.ndarray, length: int) -> Row:
    """Needles all over the text, most of them stated several times: every restatement is a question."""
    slots = length // NEEDLE_LENGTH
    total = max(2, int(slots * generator.uniform(0.4, 0.9)))
    count = min(len(KEYS), max(1, int(total * generator.uniform(0.3, 0.6))))
    needles = _pass_keys(generator, count)
    order = generator.permutation(np.concatenate([np.arange(count), generator.integers(count, size=total - count)]))
    seen: set[int] = set()
    statements = []
    for index in order.tolist():
        statements.append((needles[index], index in seen))
        seen.add(index)
    return _assemble(generator, text, length, statements, [], _NEEDLE_WORDING)


DOCUMENTS: dict[str, Callable[[np.random.Generator, np.ndarray, int], Row]] = {
    "text": text_document,
    "repeats": repeats_document,
    "pairs": pairs_document,
    "lookups": lookups_document,
    "needles": needles_document,
    "scattered": scattered_document,
    "variables": variables_document,
    "values": values_document,
    "words": words_document,
}
