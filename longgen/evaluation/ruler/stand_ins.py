"""Stand-ins for data that is not at hand, made from word lists: in the official schemas, but no benchmark.

Samples made with them say so (``meta["stand_in"]``): their scores are not RULER's.
"""

from __future__ import annotations

import functools
import random
from typing import Any

from longgen.evaluation.ruler.words import word_lists

SENTENCES = 8000
ARTICLES = 60
PARAGRAPHS = 20  # of an article, one question each
PAIRS = 1000


def _sentence(rng: random.Random) -> str:
    lists = word_lists()
    nouns, adjectives = rng.sample(lists["nouns"], 3), rng.sample(lists["adjectives"], 2)
    place, year = nouns[2], rng.randint(1100, 1999)
    return rng.choice(
        (
            f"The {adjectives[0]} {nouns[0]} was older than any {nouns[1]} in the {place}.",
            f"Nobody asked why a {nouns[0]} should be {adjectives[0]}, or the {nouns[1]} {adjectives[1]}.",
            f"In {year} they built a {adjectives[0]} {nouns[0]} beside the {place}, for the {nouns[1]}.",
            f"What is {adjectives[0]} about a {nouns[0]} is that it needs no {nouns[1]}.",
        )
    )


@functools.cache
def essay() -> str:
    """About 100,000 words of grammatical nonsense."""
    rng = random.Random("essay")
    return " ".join(_sentence(rng) for _ in range(SENTENCES))


def many_words() -> list[str]:
    """400,000 different words."""
    lists = word_lists()
    return [adjective + noun for adjective in lists["adjectives"][:60] for noun in lists["nouns"]]


def _paragraph(rng: random.Random, title: str) -> tuple[str, str, str]:
    """A paragraph about ``title``, a question on it, and the answer."""
    founder, year = " ".join(word.title() for word in rng.sample(word_lists()["nouns"], 2)), rng.randint(1100, 1999)
    around = [_sentence(rng) for _ in range(6)]
    around.insert(rng.randrange(len(around)), f"The {title} was founded by {founder} in {year}.")
    return " ".join(around), f"Who founded the {title}?", founder


def _titles(rng: random.Random, count: int) -> list[str]:
    return [f"{noun.title()} Museum" for noun in rng.sample(word_lists()["nouns"], count)]


def squad() -> dict[str, Any]:
    """Articles with paragraphs and questions in the schema of SQuAD 2.0."""
    rng = random.Random("squad")
    titles = _titles(rng, ARTICLES * PARAGRAPHS)
    articles = []
    for number in range(ARTICLES):
        paragraphs = []
        for title in titles[number * PARAGRAPHS : (number + 1) * PARAGRAPHS]:
            context, question, answer = _paragraph(rng, title)
            entry = {"question": question, "answers": [{"text": answer}], "is_impossible": False}
            paragraphs.append({"context": context, "qas": [entry]})
        articles.append({"paragraphs": paragraphs})
    return {"data": articles}


def hotpotqa() -> list[dict[str, Any]]:
    """Questions that need two of their ten paragraphs, in the schema of HotpotQA."""
    rng = random.Random("hotpotqa")
    paragraphs = [(title, *_paragraph(rng, title)) for title in _titles(rng, PAIRS)]
    questions = []
    for number, (title, _, _, founder) in enumerate(paragraphs):
        group = [paragraphs[(number + step) % PAIRS] for step in range(9)]
        context = [[name, [text]] for name, text, _, _ in group]
        city = rng.choice(word_lists()["nouns"]).title()
        context.append([founder, [f"{founder} was born in {city}."]])
        rng.shuffle(context)
        question = f"Where was the founder of the {title} born?"
        questions.append({"question": question, "answer": city, "context": context})
    return questions
