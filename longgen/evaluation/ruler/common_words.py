"""Common words extraction: after the official common_words_extraction.py, draw by draw."""

from __future__ import annotations

import random
from collections.abc import Iterator

from longgen.evaluation.ruler import words
from longgen.evaluation.ruler.counting import TokenCounter
from longgen.evaluation.ruler.data import RulerData
from longgen.evaluation.ruler.fitting import Draw, draw_fitting, largest_fitting
from longgen.evaluation.ruler.tasks import RulerTask

STEP = 10
PROBE = 4096  # words of the prompt that tells how many tokens a word takes
SHORT = 4096  # tokens, below which words are repeated less often
# (words, repetitions of common ones, of others) of the one-shot example; the repetitions of a short prompt
EXAMPLE, SHORT_EXAMPLE, SHORT_REPEATS = (40, 10, 3), (20, 3, 1), (6, 1)


class WordLists:
    """Draws prompts.

    Args:
        task: ``cwe``.
        length: tokens of prompt and answer, on which the repetitions depend.
        seed: of all draws.
        data: for lists longer than wonderwords has words.
    """

    def __init__(self, task: RulerTask, length: int, seed: int, data: RulerData) -> None:
        self._rng, self._seed, self._data = random.Random(seed), seed, data
        self._template, self._common = task.template, task.options["num_cw"]
        short = length < SHORT
        self._example = SHORT_EXAMPLE if short else EXAMPLE
        self._repeats = SHORT_REPEATS if short else (task.options["freq_cw"], task.options["freq_ucw"])
        self._words = sorted({word for words_of_kind in words.word_lists().values() for word in words_of_kind})
        random.Random(seed).shuffle(self._words)
        self._more_words: list[str] = []

    def draw(self, size: int) -> tuple[str, list[str]]:
        """Prompt and answers with ``size`` different words. Raises ValueError if there are not so many."""
        context, common = self._numbered(*self._example)
        example = f"{self._prompt(context)} {_enumerate_entries(common)}"
        context, common = self._numbered(size, *self._repeats)
        return f"{example}\n{self._prompt(context)}", common

    def _prompt(self, context: str) -> str:
        return self._template.format(num_cw=self._common, context=context, query="")

    def _numbered(self, size: int, often: int, seldom: int) -> tuple[str, list[str]]:
        vocabulary = self._rng.sample(self._enough(size), size)
        common, uncommon = vocabulary[: self._common], vocabulary[self._common :]
        entries = common * often + uncommon * seldom
        random.Random(self._seed).shuffle(entries)
        return _enumerate_entries(entries), common

    def _enough(self, size: int) -> list[str]:
        if size <= len(self._words):
            return self._words
        self._more_words = self._more_words or self._data.many_words()
        return self._more_words


def _enumerate_entries(entries: list[str]) -> str:
    return " ".join(f"{number}. {word}" for number, word in enumerate(entries, start=1))


def draws(task: RulerTask, length: int, count: int, tokens: TokenCounter, seed: int, data: RulerData) -> Iterator[Draw]:
    """The samples of one length; the arguments are those of `prepare`."""
    lists = WordLists(task, length, seed, data)

    def draw(size: int) -> Draw:
        prompt, answers = lists.draw(size)
        return Draw(prompt, answers, tokens(prompt))

    def measure(size: int) -> int:
        return draw(size).tokens

    budget = length - task.max_new_tokens
    upper = max(int(length // (measure(PROBE) / PROBE)) * 2, 2 * STEP)
    size = largest_fitting(measure, budget, STEP, upper)
    for _ in range(count):
        yield draw_fitting(draw, budget, STEP, size)
