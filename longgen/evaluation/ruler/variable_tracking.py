"""Variable tracking: after the official variable_tracking.py with noise as haystack, draw by draw."""

from __future__ import annotations

import random
import string
from collections.abc import Iterator

import numpy as np

from longgen.errors import ConfigError
from longgen.evaluation.protocol import protocol
from longgen.evaluation.ruler.counting import TokenCounter
from longgen.evaluation.ruler.data import RulerData
from longgen.evaluation.ruler.fitting import Draw, draw_fitting, largest_fitting, thrice_estimated
from longgen.evaluation.ruler.tasks import RulerTask

EXAMPLE_LENGTH = 500  # tokens of the one-shot example, without its answer
EXAMPLE_VALUE = "12345"
SHORT = 4096  # below, haystacks grow in smaller steps


class Chains:
    """Draws prompts and the one-shot example.

    Args:
        task: ``vt``.
        seed: of all draws.
    """

    def __init__(self, task: RulerTask, seed: int) -> None:
        self._rng, self._numbers = random.Random(seed), np.random.RandomState(seed)
        self._template = task.template
        self._chains, self._hops = task.options["num_chains"], task.options["num_hops"]

    def draw(self, size: int, example: bool = False) -> tuple[str, list[str]]:
        """Prompt and answers with ``size`` lines of noise.

        Raises:
            IndexError: the names drawn are not all different: the official code fails there too, and draws again.
            ValueError: fewer lines than assignments.
        """
        names, statements = self._statements(example)
        lines = [protocol("ruler")["noise"]] * size
        for chain in statements:
            places = sorted(self._rng.sample(range(len(lines)), len(chain)))
            for shift, (place, statement) in enumerate(zip(places, chain, strict=True)):
                lines.insert(place + shift, statement)
        context = "\n".join(lines).replace(". \n", ".\n")
        value = statements[0][0].split("=")[-1].strip()
        return self._template.format(context=context, query=value, num_v=self._hops + 1), names[0]

    def _statements(self, example: bool) -> tuple[list[list[str]], list[list[str]]]:
        letters, per_chain = 3 if example else 5, self._hops + 1
        names = [self._name(letters) for _ in range(per_chain * self._chains)]
        while len(set(names)) < per_chain * self._chains:
            names.append(self._name(letters))
        chains = [names[start : start + per_chain] for start in range(0, len(names), per_chain)]
        statements = []
        for chain in chains:
            value = EXAMPLE_VALUE if example else self._value()
            hops = [f"VAR {chain[hop + 1]} = VAR {chain[hop]} " for hop in range(self._hops)]
            statements.append([f"VAR {chain[0]} = {value}", *hops])
        return chains, statements

    def _name(self, letters: int) -> str:
        return "".join(self._rng.choices(string.ascii_uppercase, k=letters))

    def _value(self) -> str:
        return str(self._numbers.randint(10000, 99999))

    def renamed(self, example: str) -> str:
        """The one-shot example with other names and another value, as every prompt gets it."""
        for name in example.strip().split()[-self._hops - 1 :]:
            example = example.replace(name, self._name(len(name)))
        return example.replace(EXAMPLE_VALUE, self._value())


def draws(task: RulerTask, length: int, count: int, tokens: TokenCounter, seed: int, data: RulerData) -> Iterator[Draw]:
    """The samples of one length; the arguments are those of `prepare`."""
    chains = Chains(task, seed)

    def draw_example(size: int) -> Draw:
        prompt, answers = chains.draw(size, example=True)
        return Draw(prompt, answers, tokens(prompt))

    def measure_example(size: int) -> int:
        try:
            return draw_example(size).tokens
        except IndexError:  # where the official search would break off
            return measure_example(size)

    step = 5
    upper = thrice_estimated(measure_example, EXAMPLE_LENGTH, step)
    size = largest_fitting(measure_example, EXAMPLE_LENGTH, step, upper)
    try:
        example_draw = draw_fitting(draw_example, EXAMPLE_LENGTH, step, size)
    except ConfigError:
        raise ConfigError(
            f"tokenizer needs more than {EXAMPLE_LENGTH} tokens for the example in every prompt of {task.name}: "
            "allowed is one of words or parts of words; leave the task out"
        ) from None
    example = f"{example_draw.prompt} {' '.join(example_draw.answers)}\n"
    example_tokens = tokens(example)

    def measure(size: int) -> int:
        try:
            return tokens(chains.draw(size)[0])
        except IndexError:
            return measure(size)

    def draw(size: int) -> Draw:
        prompt, answers = chains.draw(size)
        prompt = f"{chains.renamed(example)}\n{prompt}"
        return Draw(prompt, answers, tokens(prompt))

    budget, step = length - task.max_new_tokens, 5 if length < SHORT else 10
    upper = thrice_estimated(measure, length, step)
    size = largest_fitting(measure, budget - example_tokens, step, upper)
    for _ in range(count):
        yield draw_fitting(draw, budget, step, size)
