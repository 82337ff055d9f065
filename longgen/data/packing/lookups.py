"""Rows from which long-range look-up is learnt: facts scattered in a row's own text, with questions at its end.

Our choice throughout; the paper trains on text alone. Text hardly needs tokens that are far away: a model whose layers
are all sparse has nearly the loss of a full one on it, so that a short fine-tuning on text would not tell whether
the model still finds anything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from longgen.data.facts import Fact, make_facts
from longgen.data.packing.settings import LookupSettings
from longgen.data.tokenization import TextEncoder
from longgen.errors import ConfigError

Encode = Callable[[str], list[int]]

# What a quotation asks for: so many tokens are shown, and so many are to follow. Our choice.
CUE_TOKENS, QUOTED_TOKENS = 12, 16
_QUOTE = ('\nSomewhere above stands: "', '"\nThere it goes on: "', '"\n')


class LookupRow(NamedTuple):
    """A row and where its answers are.

    Attributes:
        tokens: [length] int64.
        answers: [questions, 2] int64: where each answer begins and ends in ``tokens``.
        statements: [questions, 2] int64: where the first token of what answers it stands, and where the last ends.
    """

    tokens: np.ndarray
    answers: np.ndarray
    statements: np.ndarray


def ends_of_sentences(vocabulary: Sequence[str]) -> np.ndarray:
    """[vocabulary] bool: tokens after which a sentence may begin; by their texts."""
    return np.array([re.search(r"([.!?][\"')\]]*\s?|\n)$", text) is not None for text in vocabulary], bool)


def token_texts(tokenizer: Any) -> list[str]:
    """Text of every token of a Hugging Face tokenizer, by id; empty for special ones."""
    size, special = max(tokenizer.get_vocab().values()) + 1, set(tokenizer.all_special_ids)
    return ["" if index in special else tokenizer.decode([index]) for index in range(size)]


def lookup_row(
    generator: np.random.Generator,
    body: np.ndarray,
    facts: Sequence[Fact],
    encode: Encode,
    length: int,
    sentence_ends: np.ndarray | None = None,
    quotes: int = 0,
    within: tuple[float, float] = (0.0, 1.0),
) -> LookupRow:
    """A row of ``body`` with facts scattered in it, and at its end a question for each, in random order.

    Args:
        generator: of all randomness.
        body: at least ``length`` token ids; its first ones are used.
        facts: about different subjects (`longgen.data.facts.make_facts`).
        encode: text to token ids, without any special token.
        length: of the row, in tokens.
        sentence_ends: [vocabulary] bool, tokens after which a statement may stand; None: anywhere.
        quotes: questions beside those for facts: how a passage of the body goes on.
        within: part of the body, 0..1, in which statements and quoted passages stand.

    Raises:
        ValueError: the row has no room for them.
    """
    statements = [[encode(f" {text}" if text[0] != "\n" else text) for text in fact.statements] for fact in facts]
    questions = [(encode(fact.question), encode(fact.answer), encode(fact.end)) for fact in facts]
    opening, continuation, closing = (encode(text) for text in _QUOTE)
    room = length - sum(map(len, (part for parts in [*statements, *questions] for part in parts)))
    room -= quotes * (len(opening) + CUE_TOKENS + len(continuation) + QUOTED_TOKENS + len(closing))
    low, high = round(within[0] * room), round(within[1] * room)
    if high - low < 2 * (CUE_TOKENS + QUOTED_TOKENS):
        raise ValueError(f"a row of {length} tokens has no room for {len(facts)} facts and {quotes} quotations")
    hay = np.asarray(body[:room], np.int64)
    places = np.arange(low, high + 1)
    if sentence_ends is not None:
        starts = 1 + np.flatnonzero(sentence_ends[hay[: max(high - 1, 0)]])
        starts = starts[starts >= low]
        places = starts if len(starts) else places

    pieces: list[tuple[int, list[int], int]] = []  # place, tokens, question that it answers
    for question, parts_of_fact in enumerate(statements):
        positions = np.sort(generator.choice(places, size=len(parts_of_fact)))
        pieces += [(int(where), tokens, question) for where, tokens in zip(positions, parts_of_fact, strict=True)]
    pieces.sort(key=lambda piece: piece[0])  # stable: statements of a fact keep their order

    shifts = np.zeros(room + 1, np.int64)  # where each token of the body ends up
    spans = np.full((len(facts) + quotes, 2), -1, np.int64)
    parts: list[np.ndarray] = []
    last = end = 0
    for where, tokens, question in pieces:
        parts += [hay[last:where], np.array(tokens, np.int64)]
        end += where - last
        spans[question] = (end if spans[question, 0] < 0 else spans[question, 0]), end + len(tokens)
        end += len(tokens)
        shifts[where:] += len(tokens)
        last = where
    parts.append(hay[last:])

    for quote in range(quotes):
        start = int(generator.integers(low, high - CUE_TOKENS - QUOTED_TOKENS + 1))
        cue, rest = np.split(hay[start : start + CUE_TOKENS + QUOTED_TOKENS], [CUE_TOKENS])
        questions.append(([*opening, *cue.tolist(), *continuation], rest.tolist(), closing))
        stop = start + CUE_TOKENS + QUOTED_TOKENS
        spans[len(facts) + quote] = start + shifts[start], stop + shifts[stop - 1]

    answers = np.empty((len(questions), 2), np.int64)
    end = length - sum(len(part) for texts in questions for part in texts)
    order = generator.permutation(len(questions)).tolist()
    for row, question in enumerate(order):
        before, answer, after = questions[question]
        begin = end + len(before)
        answers[row] = begin, begin + len(answer)
        parts += [np.array(part, np.int64) for part in (before, answer, after)]
        end = begin + len(answer) + len(after)
    return LookupRow(np.concatenate(parts), answers, spans[order])


class Lookups:
    """Scatters facts in rows, each with a random stream of its own, so that a row depends on nothing but its place.

    Args:
        settings: how many rows, and how many questions.
        tokenizer: a Hugging Face tokenizer, that of the rows.
        seed: of the packing.
    """

    def __init__(self, settings: LookupSettings, tokenizer: Any, seed: int) -> None:
        self._settings, self._seed = settings, seed
        self._encode = TextEncoder(tokenizer)
        self._ends = ends_of_sentences(token_texts(tokenizer))

    def scatter(self, tokens: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Change some of the rows in place.

        Args:
            tokens: [rows, length] token ids, consecutive rows of one length.
            first: number of the first of them.

        Returns:
            [answers, 2] int32: where the answers of all rows begin and end, each in its row; and [rows] int64, how
            many each row has.

        Raises:
            ConfigError: rows are too short for so many questions.
        """
        rows, length = tokens.shape
        answers = [np.empty((0, 2), np.int32)]
        counts = np.zeros(rows, np.int64)
        for row in range(rows):
            generator = np.random.default_rng([self._seed, 2, length, first + row])
            if generator.random() >= self._settings.share:
                continue
            least = max(1, length // (self._settings.most_tokens_per_question or length))
            most = max(1, length // self._settings.tokens_per_question)
            count = max(least, int(np.exp(generator.uniform(np.log(least), np.log(most + 1)))))
            quotes = int(generator.binomial(count, self._settings.quotes))
            facts = make_facts(generator, count - quotes, self._settings.kinds)
            try:
                row_with_lookups = lookup_row(generator, tokens[row], facts, self._encode, length, self._ends, quotes)
            except ValueError as error:
                raise ConfigError(
                    f"lookups.tokens_per_question is {self._settings.tokens_per_question}: {error}; allowed is more, "
                    "or longer rows"
                ) from None
            tokens[row] = row_with_lookups.tokens
            counts[row] = count
            answers.append(row_with_lookups.answers.astype(np.int32))
        return np.concatenate(answers), counts
