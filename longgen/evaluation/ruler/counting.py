"""The length of long texts in tokens, exactly, without tokenising what has been tokenised before."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from typing import Any

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


class TokenCounter:
    """``len(tokenizer.tokenize(text))``, which is what the official code counts: without special tokens.

    Texts are cut into words and these into pieces, at places that no token of the vocabulary reaches across, and the
    lengths of both are remembered. That they add up is checked on the first texts; if not, texts are tokenised whole.

    Args:
        tokenizer: a Hugging Face tokenizer.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.get_added_vocab()
        words = (word for word in tokenizer.get_vocab() if word not in added and not BYTE.fullmatch(word))
        vocabulary = "\n".join(words).translate(SPELLING)
        self._adds_up = SPACE.search(vocabulary) is None
        places = itertools.takewhile(lambda place: re.search(place, vocabulary) is None, PLACES)
        self._inside = re.compile("|".join(places) or r"(?!)")
        self._checks_left = CHECKED_TEXTS
        self._words: dict[str, int] = {}
        self._pieces: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """Tokens of ``text``."""
        if not self._adds_up:
            return self._whole(text)
        if len(self._words) > CACHE_ENTRIES:
            self._words.clear()
            self._pieces.clear()
        first, *words = SPACE.split(text)
        self._learn(set(words).difference(self._words))
        total = self._whole(first) + sum(map(self._words.__getitem__, words))
        if self._checks_left:
            self._checks_left -= 1
            self._adds_up = total == self._whole(text)
        return total if self._adds_up else self._whole(text)

    def _whole(self, text: str) -> int:
        return len(self._tokenizer.tokenize(text))

    def _learn(self, words: set[str]) -> None:
        cut = {word: self._inside.split(f" {word}") for word in words}
        new = list(set(itertools.chain.from_iterable(cut.values())).difference(self._pieces))
        # a piece is tokenised behind something that it cannot merge with: first words may be treated otherwise
        behind = ["0" if piece[0].isalpha() else "x" for piece in new]
        before = {anchor: self._whole(anchor) for anchor in set(behind)}
        for piece, anchor, tokens in zip(new, behind, self._each(map(str.__add__, behind, new)), strict=True):
            self._pieces[piece] = tokens - before[anchor]
        for word, pieces in cut.items():
            self._words[word] = sum(map(self._pieces.__getitem__, pieces))

    def _each(self, texts: Iterable[str]) -> Iterable[int]:
        if getattr(self._tokenizer, "is_fast", False):
            return map(len, self._tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False))
        return map(self._whole, texts)
