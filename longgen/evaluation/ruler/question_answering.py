"""Question answering among many documents: after the official qa.py, draw by draw."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

from longgen.errors import ConfigError
from longgen.evaluation.protocol import protocol
from longgen.evaluation.ruler.counting import TokenCounter
from longgen.evaluation.ruler.data import RulerData
from longgen.evaluation.ruler.fitting import Draw, draw_fitting, largest_fitting, thrice_estimated
from longgen.evaluation.ruler.tasks import RulerTask

STEP = 10


class Documents:
    """Draws prompts: the documents of a question among others.

    Args:
        task: ``qa_1`` or ``qa_2``.
        seed: of all draws.
        data: for questions and documents.
    """

    def __init__(self, task: RulerTask, seed: int, data: RulerData) -> None:
        self._rng, self._seed, self._template = random.Random(seed), seed, task.template
        self.questions, self._documents = data.questions(task.options["dataset"])

    def draw(self, number: int, size: int) -> tuple[str, list[str]]:
        """Question ``number`` with ``size`` documents. Raises ValueError if its own are more."""
        question = self.questions[number]
        documents = self._choose(question.documents, question.more, size)
        random.Random(self._seed).shuffle(documents)
        form = protocol("ruler")["document"]
        context = "\n\n".join(form.format(i=i, document=document) for i, document in enumerate(documents, start=1))
        return self._template.format(context=context, query=question.text), question.answers

    def _choose(self, own: list[int], more: list[int], size: int) -> list[str]:
        total = len(self._documents)
        if size >= total:
            return (self._documents * -(-size // total))[:size]
        if size - len(own) > len(more):
            near = {*own, *more}
            far = [number for number in range(total) if number not in near]
            numbers = own + more + self._rng.sample(far, size - len(own) - len(more))
        else:
            numbers = own + self._rng.sample(more, size - len(own))
        return [self._documents[number] for number in numbers]


def draws(task: RulerTask, length: int, count: int, tokens: TokenCounter, seed: int, data: RulerData) -> Iterator[Draw]:
    """The samples of one task and length; the arguments are those of `prepare`."""
    documents = Documents(task, seed, data)
    if count > len(documents.questions):
        raise ConfigError(f"count is {count}: allowed with {task.name} is at most {len(documents.questions)}")

    def draw(number: int, size: int) -> Draw:
        prompt, answers = documents.draw(number, size)
        return Draw(prompt, answers, tokens(prompt))

    def measure(size: int) -> int:
        return draw(0, size).tokens

    budget = length - task.max_new_tokens
    size = largest_fitting(measure, budget, STEP, thrice_estimated(measure, length, STEP))
    for number in range(count):
        yield draw_fitting(functools.partial(draw, number), budget, STEP, size)
