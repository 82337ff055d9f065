"""The prompts of a probe: plain text with facts in it, far from the end where they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from longgen.data.facts import Fact, make_facts
from longgen.data.long.lookups import LookupRow, ends_of_sentences, lookup_row, token_texts
from longgen.data.tokenization import TextEncoder, prompt_start
from longgen.errors import ConfigError
from longgen.evaluation.long_text.documents import CHARACTERS_PER_TOKEN, LongText
from longgen.pattern import SparsePattern

# Our choices. Facts of one statement: where it stands decides whether a sparse layer sees it.
KINDS = ("number", "place", "words", "setting")
TEXT_TOKENS = 256  # of a prompt, whose loss is that on plain text
MOST_DOCUMENTS = 64  # that are read
_MOST_DRAWS = 200  # of places for the statements


@dataclass(frozen=True)
class Prompt:
    """A row of tokens and what is asked of it.

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
        stated = make_facts(generator, facts, KINDS)
        asked = sum(len(encode(part)) for fact in stated for part in (fact.question, fact.answer, fact.end))
        sight = _Sight(pattern, num_kv_heads, length, length - asked, len(start))
        row = _draw(generator, body, stated, encode, ends, sight)
        answers = np.concatenate([np.arange(first, last) for first, last in np.sort(row.answers, axis=0)]) + len(start)
        tokens = np.concatenate([start, row.tokens])
        prompts.append(Prompt(tokens, answers, _plain(generator, row, sight)))
    return prompts


@dataclass(frozen=True)
class _Sight:
    """Where in a prompt statements may stand: positions count from its first token, the tokenizer's BOS included."""

    pattern: SparsePattern
    num_kv_heads: int
    length: int
    asked_from: int  # the first token of the first question
    start: int  # tokens before the row

    def room(self) -> tuple[int, int]:
        """First position behind the sink, and the last end before what is in the window when questions begin."""
        size = self.pattern.block_size
        window = (self.asked_from // size - self.pattern.local_blocks + 1) * size
        return max(self.pattern.sink_blocks * size, self.start), window

    def sees(self, spans: np.ndarray) -> bool:
        """Whether some sparse head sees a token of ``spans`` ([facts, 2]) when the first question begins, or later.

        What is out of sight then never comes back.
        """
        tokens = np.concatenate([np.arange(first, last) for first, last in spans]) + self.start
        offsets = set(self.pattern.head_offsets(self.num_kv_heads))
        return any(bool(self.pattern.allowed(self.asked_from, tokens, offset).any()) for offset in offsets)


def _draw(
    generator: np.random.Generator,
    body: np.ndarray,
    facts: Sequence[Fact],
    encode: TextEncoder,
    ends: np.ndarray,
    sight: _Sight,
) -> LookupRow:
    """A row with ``facts`` where no sparse head sees them; strided blocks are avoided by drawing again."""
    first, last = sight.room()
    length = sight.length - sight.start
    stated = sum(len(encode(f" {text}")) for fact in facts for text in fact.statements)
    room = sight.asked_from - sight.start - stated
    low, high = first - sight.start, last - sight.start - stated
    if 0 <= low < high <= room:
        for _ in range(_MOST_DRAWS):
            try:
                row = lookup_row(generator, body, facts, encode, length, ends, within=(low / room, high / room))
            except ValueError:
                break
            if not sight.sees(row.statements):
                return row
    asked, seen = sight.length - sight.asked_from, _in_words(sight.pattern)
    raise ConfigError(
        f"--length is {sight.length}: {len(facts)} facts need {stated} tokens that no sparse layer sees ({seen}) from "
        f"the questions, the last {asked} tokens; allowed is a longer one, fewer --facts, or a pattern that sees less"
    )


def _in_words(pattern: SparsePattern) -> str:
    size = pattern.block_size
    words = f"a sink of {pattern.sink_blocks * size} tokens and a window of {pattern.local_blocks * size}"
    return words + (f", one block of {size} in {pattern.stride}" if pattern.stride else "")


def _plain(generator: np.random.Generator, row: LookupRow, sight: _Sight) -> np.ndarray:
    """Positions of plain text to take the loss at: beyond sink and window, where sparse layers see less than full."""
    places = np.arange(1, sight.asked_from)
    inside = np.zeros(sight.length, bool)
    for first, last in row.statements + sight.start:
        inside[first:last] = True
    beyond = (sight.pattern.sink_blocks + sight.pattern.local_blocks) * sight.pattern.block_size
    places = places[~inside[places] & (places >= min(beyond, sight.asked_from // 2))]
    return np.sort(generator.choice(places, size=min(TEXT_TOKENS, len(places)), replace=False))


def _passages(
    text: LongText, encode: TextEncoder, count: int, length: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """``count`` times ``length`` tokens, in turns from the documents that have so many, from anywhere in them."""
    documents = [document for document, _ in zip(text.documents, range(MOST_DOCUMENTS), strict=False)]
    found: list[np.ndarray] = []
    order = generator.permutation(len(documents)).tolist()
    while order and len(found) < count:
        for index in list(order):
            if len(found) == count:
                break
            tokens = _passage(documents[index], encode, length, generator)
            if tokens is None:
                order.remove(index)
            else:
                found.append(tokens)
    if len(found) < count:
        raise ConfigError(
            f"--length is {length}: allowed is at most as many tokens as a document of the text has, and none of "
            f"{len(documents)} of {text.source} has so many"
        )
    return found


def _passage(document: str, encode: TextEncoder, length: int, generator: np.random.Generator) -> np.ndarray | None:
    characters = length * CHARACTERS_PER_TOKEN
    begin = int(generator.integers(max(1, len(document) - characters + 1)))
    if begin:
        space = document.find(" ", begin)
        begin = space + 1 if 0 <= space <= len(document) - characters else begin
    tokens = encode(document[begin : begin + characters])
    return np.array(tokens[:length], np.int64) if len(tokens) >= length else None
