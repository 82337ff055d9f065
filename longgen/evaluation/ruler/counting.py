"""The length of long texts in tokens, exactly, without tokenising what has been tokenised before."""

from __future__ import annotations

import itertools
import operator
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np

from longgen.data.tokenization import TextEncoder

# A single space, which tokens hardly ever reach across. It comes first in the pattern: so it is found fast.
SPACE = re.compile(r" (?<=\S )(?=\S)")
# Places in words that many tokenizers' tokens do not reach across either: before punctuation (except an apostrophe:
# contractions may be whole), between letters and digits, between digits.
PLACES = (
    r"(?<=[A-Za-z0-9])(?=[!-&(-/:-@\[-^`{-~])",
    r"(?<=[A-Za-z])(?=[0-9])",
    r"(?<=[0-9])(?=[A-Za-z])",
    r"(?<=[0-9])(?=[0-9])",
)
# how vocabularies write a space (byte-level BPE, SentencePiece) and a newline
SPELLING = str.maketrans({"Ġ": " ", "▁": " ", "Ċ": "\n"})
BYTE = re.compile(r"<0x[0-9A-F]{2}>")
CACHE_ENTRIES = 1 << 18
CHECKED_TEXTS = 2
LONG_NUMBER = 6  # digits


class TokenCounter:
    """Tokens of a text alone, without special ones (`longgen.data.tokenization.encode_text`).

    It is what the official code counts, but for texts that spell a special token, which stay text here.

    Texts are cut into words and these into pieces, at places that no token of the vocabulary reaches across. What is
    likely to come again is remembered with its length: pieces, and words that come a second time. That lengths add up
    is checked on the first texts; if not, texts are tokenised whole. So is a text that spells an added token, which
    may reach across any place.

    Args:
        tokenizer: a fast Hugging Face tokenizer.

    Raises:
        ConfigError: it is not a fast one.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._encode, self._backend = TextEncoder(tokenizer), tokenizer.backend_tokenizer
        added_tokens = tokenizer.get_added_vocab()
        self._added_tokens: defaultdict[str, set[str]] = defaultdict(set)
        self._fold = str if self._backend.normalizer is None else _fold_case
        for token in filter(None, map(self._fold, added_tokens)):
            self._added_tokens[next((mark for mark in token if not mark.isalnum()), token[0])].add(token)
        words = (word for word in tokenizer.get_vocab() if word not in added_tokens and not BYTE.fullmatch(word))
        vocabulary = "\n".join(words).translate(SPELLING)
        self._adds_up = SPACE.search(vocabulary) is None
        places = itertools.takewhile(lambda place: re.search(place, vocabulary) is None, PLACES)
        self._inside = re.compile("|".join(places) or r"(?!)")
        self._checks_left = CHECKED_TEXTS
        self._words: dict[str, int] = {}
        self._pieces: dict[str, int] = {}
        self._rare_words: set[str] = set()

    def __call__(self, text: str) -> int:
        """Tokens of ``text``."""
        if not self._adds_up or self._may_hold_added(text):
            return self._whole(text)
        for memory in (self._words, self._pieces, self._rare_words):
            if len(memory) > CACHE_ENTRIES:
                memory.clear()
        first, *words = SPACE.split(text)
        counts = Counter(words)
        once = {word for word, count in counts.items() if count == 1}.difference(self._words, self._rare_words)
        self._rare_words |= once
        for word in once:
            del counts[word]
        pieces = Counter(itertools.chain.from_iterable(map(self._inside.split, map(" ".__add__, once))))
        numbers = [piece for piece, count in pieces.items() if count == 1 and _is_long_number(piece)]
        for number in numbers:
            del pieces[number]
        self._learn(set(counts).difference(self._words), pieces)
        total = self._whole(first) - self._whole("x") + sum(self._each(["x" + "".join(numbers)]))
        for occurrences, token_counts in ((counts, self._words), (pieces, self._pieces)):
            total += sum(map(operator.mul, occurrences.values(), map(token_counts.__getitem__, occurrences)))
        if self._checks_left:
            self._checks_left -= 1
            self._adds_up = total == self._whole(text)
        return total if self._adds_up else self._whole(text)

    def _whole(self, text: str) -> int:
        return len(self._encode(text))

    def _may_hold_added(self, text: str) -> bool:
        """Whether an added token occurs, however texts are normalised. What is rare in texts is looked for first."""
        normal_form = self._fold(text)
        return any(
            mark in normal_form and any(token in normal_form for token in self._added_tokens[mark])
            for mark in self._added_tokens
        )

    def _learn(self, words: Iterable[str], pieces: Iterable[str]) -> None:
        splits = {word: self._inside.split(f" {word}") for word in words}
        new = list(set(itertools.chain(pieces, *splits.values())).difference(self._pieces))
        # a piece is tokenised behind something that it cannot merge with: first words may be treated otherwise
        behind = ["0" if piece[0].isalpha() else "x" for piece in new]
        before = {anchor: self._whole(anchor) for anchor in set(behind)}
        for piece, anchor, tokens in zip(new, behind, self._each(list(map(operator.add, behind, new))), strict=True):
            self._pieces[piece] = tokens - before[anchor]
        for word, parts in splits.items():
            self._words[word] = sum(map(self._pieces.__getitem__, parts))

    def _each(self, texts: list[str]) -> Iterable[int]:
        """Tokens of every text, just after a call of `_whole`, which sets how the tokenizer takes text.

        It takes all texts at once, and tells of every token whose it is.
        """
        encoding = self._backend.encode(texts, is_pretokenized=True, add_special_tokens=False)
        return np.bincount(encoding.word_ids, minlength=len(texts)).tolist() if texts else []


def _fold_case(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _is_long_number(piece: str) -> bool:
    """Such come once and hardly ever again: those of a text are tokenised together, and not remembered."""
    return piece[0] == " " and piece[-LONG_NUMBER:].isdigit()
