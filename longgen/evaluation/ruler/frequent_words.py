"""Frequent words extraction: after the official freq_words_extraction.py, draw by draw."""

from __future__ import annotations

import math
import random
import string
from collections.abc import Iterator

import numpy as np

from longgen.errors import ConfigError
from longgen.evaluation.ruler.counting import TokenCounter
from longgen.evaluation.ruler.data import RulerData
from longgen.evaluation.ruler.fitting import Draw
from longgen.evaluation.ruler.tasks import RulerTask

LETTERS = 6
TOKENS_PER_WORD = 50  # of the vocabulary, not of the text
NOISE = "..."  # stands for the most frequent word
ZETA = {2.0: math.pi**2 / 6}  # Riemann's, at the one alpha of the 13 tasks


class CodedText:
    """Draws prompts, each with a vocabulary of its own.

    Args:
        task: ``fwe``.
        vocabulary: words of it.
        seed: of all draws.
    """

    def __init__(self, task: RulerTask, vocabulary: int, seed: int) -> None:
        self._rng, self._seed, self._template = random.Random(seed), seed, task.template
        ranks, alpha = np.arange(1, vocabulary + 1), task.options["alpha"]
        self._size, self._weights, self._zeta = vocabulary, ranks**-alpha, ZETA[alpha]

    def vocabulary(self) -> list[str]:
        """Coded words, the most frequent first."""
        words = [self._word() for _ in range(self._size)]
        while len(set(words)) < self._size:
            words.append(self._word())
        words = sorted(set(words))
        random.Random(self._seed).shuffle(words)
        return [NOISE, *words[1:]]

    def _word(self) -> str:
        return "".join(self._rng.choices(string.ascii_lowercase, k=LETTERS))

    def prompt(self, vocabulary: list[str], size: int) -> str:
        """A text of about ``size`` words whose frequencies follow a zeta distribution."""
        counts = (size * self._weights / self._zeta).astype(int)
        text = [word for word, count in zip(vocabulary, counts, strict=True) for _ in range(count)]
        random.Random(self._seed).shuffle(text)
        return self._template.format(context=" ".join(text), query="")


def draws(task: RulerTask, length: int, count: int, tokens: TokenCounter, seed: int, data: RulerData) -> Iterator[Draw]:
    """The samples of one length; the arguments are those of `prepare`."""
    budget = length - task.max_new_tokens
    coded_text = CodedText(task, budget // TOKENS_PER_WORD, seed)
    step = budget // 32
    vocabulary, most = coded_text.vocabulary(), budget // LETTERS
    while tokens(coded_text.prompt(vocabulary, most)) < budget:
        most += step
    most -= step
    for _ in range(count):
        vocabulary, size = coded_text.vocabulary(), most
        while (length_of := tokens(prompt := coded_text.prompt(vocabulary, size))) > budget:
            if size <= 0:
                raise ConfigError(f"no prompt of {task.name} fits in {length} tokens: ask for a greater length")
            size -= step
        yield Draw(prompt, vocabulary[1:4], length_of)
