"""The essay haystack: its first words, cut into sentences between which needles are put."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable

from longgen.errors import ConfigError

# text -> where its sentences begin and end, as str indices
Splitter = Callable[[str], Iterable[tuple[int, int]]]


def punkt() -> Splitter:
    """NLTK's English sentence splitter, which the official code uses.

    Raises:
        ConfigError: NLTK or its model is not installed.
    """
    try:
        from nltk.tokenize.punkt import PunktTokenizer

        return PunktTokenizer("english").span_tokenize
    except (ImportError, LookupError):
        raise ConfigError(
            "RULER puts needles between the sentences that NLTK finds: "
            "`pip install nltk`, then `python -m nltk.downloader punkt_tab`"
        ) from None


def plain_sentences(text: str) -> Iterable[tuple[int, int]]:
    """Sentences of stand-in text, each of which ends in a full stop."""
    return (match.span() for match in re.finditer(r"\S.*?(?:\.(?= )|$)", text))


class Essays:
    """The official haystack ``essay``.

    Args:
        text: of all essays.
        splitter: into sentences.
    """

    def __init__(self, text: str, splitter: Splitter) -> None:
        self._words = re.sub(r"\s+", " ", text).split(" ")
        self._splitter = splitter

    def _first(self, count: int) -> str:
        """The first ``count`` words; after the last essay the first follows again."""
        repeats = -(-count // len(self._words))
        return " ".join((self._words * repeats)[:count]).strip()

    @functools.lru_cache(maxsize=32)  # noqa: B019 - as long-lived as the only instance
    def sentences(self, count: int) -> list[str]:
        """Sentences of the first ``count`` words, split for themselves.

        They are not the first sentences of a longer text: how a splitter cuts at the last period depends on what, if
        anything, follows it (NLTK makes three sentences of ``He did. (He said so.)4.``, two if a word follows).
        """
        text = self._first(count)
        return [text[start:end] for start, end in self._splitter(text)]
