"""The prompts of a probe: plain text with facts in it, far from the end where they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from longgen.data.facts import Fact, make_facts
from longgen.data.packing.lookups import LookupRow, ends_of_sentences, lookup_row, token_texts
from longgen.data.tokenization import TextEncoder, prompt_start
from longgen.errors import ConfigError
from longgen.evaluation.perplexity.documents import CHARACTERS_PER_TOKEN, LongText
from longgen.pattern import SparsePattern

# Our choices. Facts of one statement: where it stands decides whether a sparse layer sees it.
KINDS = ("number", "place", "words", "setting")
TEXT_TOKENS = 256  # of a prompt, whose loss is that on plain text
MOST_DOCUMENTS = 64  # that are read
_MOST_DRAWS = 200  # of places for the statements


@dataclass(frozen=True)
class Prompt:
    """A row of tokens, and the positions where its loss is taken.

    Attributes:
        tokens: [length] int64.
        answers: positions (int64, ascending) of the answers' tokens in ``tokens``.
        text: positions (int64, ascending) of some tokens of the plain text, beyond the sparse layers' window.
    """

    tokens: np.ndarray
    answers: np.ndarray
    text: np.ndarray

    @property
    def name(self) -> str:
        """Tells prompts apart by their contents."""
        digest = hashlib.sha256()
        for part in (self.tokens, self.answers, self.text):
            digest.update(np.ascontiguousarray(part, np.int64).tobytes() + b"|")
        return digest.hexdigest()[:16]


def make_prompts(
    text: LongText,
    tokenizer: Any,
    pattern: SparsePattern,
    num_kv_heads: int,
    *,
    count: int,
    length: int,
    facts: int,
    seed: int,
) -> list[Prompt]:
    """Prompts in which no sparse layer sees a fact when it is asked for.

    Args:
        text: documents; each prompt has a passage of one of them.
        tokenizer: a fast Hugging Face tokenizer.
        pattern: of the sparse layers.
        num_kv_heads: of the model.
        count: how many.
        length: of each, in tokens, BOS included if the tokenizer has one.
        facts: in each.
        seed: of passages, facts, their places, and the positions of plain text.

    Raises:
        ConfigError: the text is too short, or ``length`` leaves no room out of the sparse layers' sight.
    """
    encode, start = TextEncoder(tokenizer), np.array(prompt_start(tokenizer), np.int64)
    bodies = _passages(text, encode, count, length, np.random.default_rng([seed, 0]))
    ends = ends_of_sentences(token_texts(tokenizer))
    prompts = []
    for number, body in enumerate(bodies):
        generator = np.random.default_rng([seed, 1, number])
        prompt_facts = make_facts(generator, facts, KINDS)
        question_tokens = sum(
            len(encode(part)) for fact in prompt_facts for part in (fact.question, fact.answer, fact.end)
        )
        places = _StatementPlaces(pattern, num_kv_heads, length, length - question_tokens, len(start))
        row = _draw(generator, body, prompt_facts, encode, ends, places)
        answers = np.concatenate([np.arange(first, last) for first, last in np.sort(row.answers, axis=0)]) + len(start)
        tokens = np.concatenate([start, row.tokens])
        prompts.append(Prompt(tokens, answers, _plain(generator, row, places)))
    return prompts


@dataclass(frozen=True)
class _StatementPlaces:
    """Where in a prompt statements may stand: positions count from its first token, the tokenizer's BOS included."""

    pattern: SparsePattern
    num_kv_heads: int
    length: int
    questions_start: int  # the first token of the first question
    start: int  # tokens before the row

    @cached_property
    def hidden(self) -> np.ndarray:
        """[questions_start] bool: tokens of the row that no sparse head sees when the first question begins.

        What is out of sight then never comes back.
        """
        tokens = np.arange(self.questions_start)
        seen = [self.pattern.allowed(self.questions_start, tokens, offset) for offset in self._offsets]
        return ~np.any(seen, axis=0) & (tokens >= self.start)

    def room(self) -> tuple[int, int]:
        """The first hidden position, and where the last one ends; both 0 if there is none."""
        places = np.flatnonzero(self.hidden)
        return (int(places[0]), int(places[-1]) + 1) if len(places) else (0, 0)

    def hides(self, spans: np.ndarray) -> bool:
        """Whether all tokens of ``spans`` ([facts, 2], in the row) are hidden."""
        return all(bool(self.hidden[first:last].all()) for first, last in (spans + self.start).tolist())

    def first_with_less(self) -> int:
        """The first position at which some sparse head sees less than all tokens before it, or ``questions_start``."""
        positions = range(self.questions_start)
        less = (each for each in positions if any(self.pattern.kept_count(each, o) < each for o in self._offsets))
        return next(less, self.questions_start)

    @property
    def _offsets(self) -> set[int]:
        return set(self.pattern.head_offsets(self.num_kv_heads))


def _draw(
    generator: np.random.Generator,
    body: np.ndarray,
    facts: Sequence[Fact],
    encode: TextEncoder,
    ends: np.ndarray,
    places: _StatementPlaces,
) -> LookupRow:
    """A row with ``facts`` where no sparse head sees them; strided blocks are avoided by drawing again."""
    first, last = places.room()
    length = places.length - places.start
    statement_tokens = sum(len(encode(f" {text}")) for fact in facts for text in fact.statements)
    room = places.questions_start - places.start - statement_tokens
    low, high = first - places.start, last - places.start - statement_tokens
    if 0 <= low < high <= room:
        for _ in range(_MOST_DRAWS):
            try:
                row = lookup_row(generator, body, facts, encode, length, ends, within=(low / room, high / room))
            except ValueError:
                break
            if places.hides(row.statements):
                return row
    question_tokens, visible = places.length - places.questions_start, _in_words(places.pattern)
    raise ConfigError(
        f"--length is {places.length}: {len(facts)} facts need {statement_tokens} tokens that no sparse layer sees "
        f"({visible}) from the questions, the last {question_tokens} tokens; allowed is a longer one, fewer --facts, "
        "or a pattern that sees less"
    )


def _in_words(pattern: SparsePattern) -> str:
    size = pattern.block_size
    words = f"a sink of {pattern.sink_blocks * size} tokens and a window of {pattern.local_blocks * size}"
    return words + (f", one block of {size} in {pattern.stride}" if pattern.stride else "")


def _plain(generator: np.random.Generator, row: LookupRow, places: _StatementPlaces) -> np.ndarray:
    """Positions of plain text to take the loss at: beyond sink and window, where sparse layers see less than full."""
    is_statement = np.zeros(places.questions_start, bool)
    for first, last in row.statements + places.start:
        is_statement[first:last] = True
    first = min(places.first_with_less(), places.questions_start // 2)
    plain = first + np.flatnonzero(~is_statement[first:])
    return np.sort(generator.choice(plain, size=min(TEXT_TOKENS, len(plain)), replace=False))


def _passages(
    text: LongText, encode: TextEncoder, count: int, length: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """``count`` times ``length`` tokens, in turns from the documents that have so many, from anywhere in them."""
    documents = [document for document, _ in zip(text.documents, range(MOST_DOCUMENTS), strict=False)]
    passages: list[np.ndarray] = []
    order = generator.permutation(len(documents)).tolist()
    while order and len(passages) < count:
        for index in list(order):
            if len(passages) == count:
                break
            tokens = _passage(documents[index], encode, length, generator)
            if tokens is None:
                order.remove(index)
            else:
                passages.append(tokens)
    if len(passages) < count:
        raise ConfigError(
            f"--length is {length}: allowed is at most as many tokens as a document of the text has, and none of "
            f"{len(documents)} of {text.source} has so many"
        )
    return passages


def _passage(document: str, encode: TextEncoder, length: int, generator: np.random.Generator) -> np.ndarray | None:
    characters = length * CHARACTERS_PER_TOKEN
    begin = int(generator.integers(max(1, len(document) - characters + 1)))
    if begin:
        space = document.find(" ", begin)
        begin = space + 1 if 0 <= space <= len(document) - characters else begin
    tokens = encode(document[begin : begin + characters])
    return np.array(tokens[:length], np.int64) if len(tokens) >= length else None
