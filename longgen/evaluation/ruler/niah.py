"""Needle in a haystack, eight of the tasks: after the official niah.py, draw by draw."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator

import numpy as np

from longgen.evaluation.protocol import protocol
from longgen.evaluation.ruler import words
from longgen.evaluation.ruler.counting import TokenCounter
from longgen.evaluation.ruler.data import RulerData
from longgen.evaluation.ruler.fitting import Draw, draw_fitting, largest_fitting, thrice_estimated
from longgen.evaluation.ruler.tasks import RulerTask

DEPTHS = np.round(np.linspace(0, 100, num=40)).astype(int).tolist()  # percent of the sentences
SHORT = 4096  # below, haystacks of lines grow in smaller steps


class Needles:
    """Draws prompts of one task.

    Args:
        task: one of the family ``niah``.
        seed: of all draws.
        data: for the haystack of essays.
    """

    def __init__(self, task: RulerTask, seed: int, data: RulerData) -> None:
        options = task.options
        self._rng, self._seed = random.Random(seed), seed
        self._hay, self._keys, self._values = options["haystack"], options["keys"], options["values"]
        self._num_values, self._num_queries = options["num_values"], options["num_queries"]
        self._num_keys = max(options["num_keys"], self._num_queries)
        self._essays = data.essays() if self._hay == "essay" else None
        self._template, self._kind = task.template, self._values
        if self._num_queries * self._num_values == 1:
            for plural, singular in (("Some", "A"), ("are all", "is"), ("are", "is"), ("answers", "answer")):
                self._template = self._template.replace(plural, singular)
            self._kind = self._kind.removesuffix("s")

    def step(self, length: int) -> int:
        """Words of an essay or lines by which the haystack grows and shrinks."""
        if self._hay == "essay":
            return 500
        return 5 if length < SHORT else 25

    def draw(self, size: int) -> tuple[str, list[str]]:
        """Prompt and answers with ``size`` words or lines of haystack. Raises ValueError if the needles are more."""
        keys, values, needles = [], [], []
        for _ in range(self._num_keys):
            keys.append(self._random(self._keys))
            values.append([self._random(self._values) for _ in range(self._num_values)])
            needles += [self._needle(keys[-1], value) for value in values[-1]]
        random.Random(self._seed).shuffle(needles)
        context = self._context(size, needles)
        query_indices = self._rng.sample(range(self._num_keys), self._num_queries)
        *firsts, last = [keys[index] for index in query_indices]
        query = f"{', '.join(firsts)}, and {last}" if firsts else last
        prompt = self._template.format(type_needle_v=self._kind, context=context, query=query)
        return prompt, [value for index in query_indices for value in values[index]]

    def _random(self, kind: str) -> str:
        if kind == "numbers":
            return str(self._rng.randint(10**6, 10**7 - 1))
        if kind == "words":
            return self._rng.choice(words.keys())
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))

    def _needle(self, key: str, value: str) -> str:
        return protocol("ruler")["needle"].format(type_needle_v=self._values, key=key, value=value)

    def _context(self, size: int, needles: list[str]) -> str:
        if self._essays:
            sentences = self._essays.sentences(size)
            depths = self._rng.sample(DEPTHS, len(needles))
            places = sorted(int(len(sentences) * (depth / 100)) for depth in depths)
            parts = []
            for start, end, needle in zip([0, *places], places, needles, strict=False):
                parts += [" ".join(sentences[start:end]), needle]
            return " ".join([*parts, " ".join(sentences[places[-1] :])])
        if self._hay == "noise":
            lines = [protocol("ruler")["noise"]] * size
        else:
            lines = [self._needle(self._random(self._keys), self._random(self._values)) for _ in range(size)]
        places = sorted(self._rng.sample(range(size), len(needles)), reverse=True)
        for place, needle in zip(places, needles, strict=True):
            lines.insert(place, needle)
        return "\n".join(lines)


def draws(task: RulerTask, length: int, count: int, tokens: TokenCounter, seed: int, data: RulerData) -> Iterator[Draw]:
    """The samples of one task and length; the arguments are those of `prepare`."""
    needles = Needles(task, seed, data)
    budget, step = length - task.max_new_tokens, needles.step(length)

    def draw(size: int) -> Draw:
        prompt, answers = needles.draw(size)
        return Draw(prompt, answers, tokens(prompt))

    def measure(size: int) -> int:
        return draw(size).tokens

    size = largest_fitting(measure, budget, step, thrice_estimated(measure, length, step))
    for _ in range(count):
        yield draw_fitting(draw, budget, step, size)
