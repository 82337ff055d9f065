"""BABILong's texts made here: facts of bAbI's stories between sentences of books, as its own code makes them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longgen.data.sources import SourceSettings, load_documents
from longgen.data.tokenization import TextEncoder
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.babilong.records import BabilongRecord
from longgen.evaluation.babilong.stories import Story, load_stories
from longgen.evaluation.sources import choose

BOOKS = "books"  # below the data root
SHORTEST_SENTENCE = 10  # tokens; shorter ones are left out
CHARACTERS_PER_TOKEN = 10  # of a book that are read at most
TOKENS_PER_FACT = 8  # stories with more facts than a text has room for by this measure are left out
MAX_EMPTY_PASSAGES = 300  # in a row, without a sentence, after which we give up; the benchmark's code never does
LITTLE_ROOM = 100  # tokens, in which no whole sentence may fit: then there is no background

Seed = int | Sequence[int]


class Background:
    """Sentences of books: each passage begins anywhere in any book (the benchmark's ``SentenceSampler``, shuffled).

    Args:
        books: texts.
        encode: text -> its tokens.
        seed: of books and beginnings.
        folder: where the books are, for error messages.
    """

    def __init__(
        self, books: Sequence[str], encode: Callable[[str], list[int]], seed: Seed, folder: Path | str = BOOKS
    ) -> None:
        self._books, self._encode, self._folder = books, encode, folder
        self._rng = np.random.default_rng(seed)
        self._split = _splitter()
        self._sentences: list[str] = []

    def take(self, size: int) -> list[list[int]]:
        """The tokens of the next sentences, ``size`` in all: the last one is cut. Fewer where there is little room.

        Raises:
            ArtifactError: the books have no sentences that are long enough.
        """
        sentences: list[list[int]] = []
        total = empty_passages = 0
        while size > 0:
            for number, sentence in enumerate(self._sentences, 1):
                tokens = self._encode(f" {sentence}")
                if len(tokens) < SHORTEST_SENTENCE:
                    continue
                empty_passages = 0
                sentences.append(tokens)
                total += len(tokens)
                if total >= size:
                    self._sentences = self._sentences[number:]
                    sentences[-1] = tokens[: max(0, len(tokens) - (total - size))]
                    return sentences
            empty_passages += 1
            if empty_passages > MAX_EMPTY_PASSAGES and size <= LITTLE_ROOM:
                break
            if empty_passages > MAX_EMPTY_PASSAGES:
                raise self._no_sentences()
            self._sentences = self._passage(size)
        return sentences

    def check(self, size: int) -> None:
        """That a passage for ``size`` tokens has a sentence, without making a text. Raises as `take`."""
        for _ in range(MAX_EMPTY_PASSAGES):
            if any(len(self._encode(f" {sentence}")) >= SHORTEST_SENTENCE for sentence in self._passage(size)):
                return
        if size > LITTLE_ROOM:
            raise self._no_sentences()

    def _no_sentences(self) -> ArtifactError:
        return ArtifactError(
            f"{self._folder}/*.txt hold no sentences of {SHORTEST_SENTENCE} tokens or more with this tokenizer: put "
            "books there, between whose sentences facts are hidden"
        )

    def _passage(self, size: int) -> list[str]:
        """Sentences from a random place on, without the first and the last, which may be parts."""
        book = self._books[int(self._rng.choice(len(self._books)))]
        start = int(self._rng.choice(len(book))) if book else 0
        return self._split(book[start:][: size * CHARACTERS_PER_TOKEN])[1:-1]


def text_with_facts(
    facts: Sequence[str], size: int, background: Background, encode: Callable[[str], list[int]], places: Any
) -> list[int]:
    """The tokens of a text: facts in their order, at random places between sentences (``NoiseInjectionDataset``).

    Args:
        facts: sentences of a story.
        size: tokens of the text; of the facts alone, where they are more.
        background: gives the sentences.
        encode: text -> its tokens.
        places: NumPy generator.
    """
    fact_tokens = [encode(f" {fact}") for fact in facts]
    sentences = background.take(size - sum(map(len, fact_tokens)))
    positions = np.sort(places.choice(len(sentences) + 1, len(fact_tokens)))
    parts: list[list[list[int]]] = [[] for _ in range(len(sentences) + 1)]
    for place, fact in zip(positions, fact_tokens, strict=True):
        parts[place].append(fact)
    for place, sentence in enumerate(sentences):
        parts[place].append(sentence)
    return [token for part in parts for piece in part for token in piece]


class GeneratedRecords:
    """Records of a task at a length, each made when it is asked for, and the same whichever others are.

    Args:
        task: of the benchmark.
        length: tokens that prompt and answer have at most, and nearly; 0: facts alone.
        size: tokens that a record's prompt and answer take.
        tokenizer: a fast Hugging Face tokenizer, that ``size`` counts with.
        seed: of sentences and places.
        data_root: folder that holds ``babi/`` and ``books/``.

    Raises:
        ArtifactError: data is missing or bad.
    """

    def __init__(
        self, task: str, length: int, size: Callable[[BabilongRecord], int], tokenizer: Any, seed: int, data_root: Path
    ) -> None:
        self._length, self._size, self._tokenizer, self._seed = length, size, tokenizer, seed
        self._encode = TextEncoder(tokenizer)
        self._stories = load_stories(task, data_root)
        self._books = load_books(data_root) if length else []
        self._folder = data_root / BOOKS

    def __len__(self) -> int:
        return len(self._stories)

    def fits(self, index: int) -> bool:
        """Whether a story can be told in the length."""
        return not self._length or self._shortest(index) <= self._length

    def choose(self, count: int | None, seed: int) -> list[int]:
        """Indices of ``count`` stories that fit, as `longgen.evaluation.sources.choose`.

        Raises:
            ConfigError: there are none.
            ArtifactError: the books have no sentences that are long enough.
        """
        indices = choose(len(self), count, seed, self.fits)
        if not indices:
            shortest = min(map(self._shortest, range(len(self))))
            raise ConfigError(f"length is {self._length}: allowed is {shortest} tokens or more with this tokenizer")
        if self._length:
            room = max(self._length - self._size(_bare(self._stories[index])) for index in indices)
            Background(self._books, self._encode, [self._seed, self._length], self._folder).check(room)
        return indices

    def _shortest(self, index: int) -> int:
        """The length from which on a story is told."""
        story = self._stories[index]
        around = self._size(BabilongRecord("", story.question, story.target))
        return max(self._size(_bare(story)), around + TOKENS_PER_FACT * (len(story.facts) + 1))

    def __getitem__(self, index: int) -> BabilongRecord:
        story = self._stories[index]
        if not self._length:
            return _bare(story)
        record = BabilongRecord("", story.question, story.target)
        room = self._length - self._size(record)
        while True:
            # streams of its own for every record, so that none depends on which others are made
            seed = [self._seed, self._length, index]
            background = Background(self._books, self._encode, seed, self._folder)
            tokens = text_with_facts(story.facts, room, background, self._encode, np.random.default_rng([*seed, 1]))
            record = BabilongRecord(self._tokenizer.decode(tokens).strip(), story.question, story.target)
            beyond = self._size(record) - self._length
            if beyond <= 0:
                return record
            room -= beyond  # read again, a text can have more tokens than its parts


def _bare(story: Story) -> BabilongRecord:
    return BabilongRecord(" ".join(story.facts), story.question, story.target)


def load_books(data_root: Path) -> list[str]:
    """The texts of ``books/*.txt``. Raises ArtifactError where there are none."""
    folder = data_root / BOOKS
    if not folder.is_dir():
        raise ArtifactError(f"{folder} is no folder: put books there as .txt, between whose sentences facts are hidden")
    books = [document.text for document in load_documents(SourceSettings("text", str(folder)))]
    if not any(map(str.strip, books)):
        raise ArtifactError(f"{folder}/*.txt hold no text: put books there")
    return books


@functools.cache
def _splitter() -> Callable[[str], list[str]]:
    """NLTK's sentence splitter without a trained model, which the benchmark's code uses."""
    try:
        from nltk.tokenize.punkt import PunktSentenceTokenizer
    except ImportError:
        raise ConfigError(
            "BABILong hides facts between the sentences that NLTK finds: pip install 'longgen[eval]'"
        ) from None
    return PunktSentenceTokenizer().tokenize
