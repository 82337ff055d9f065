"""Needle in a haystack: one sentence at a depth of a long text, and a question that only it answers."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from longgen.data.sources import SourceSettings, load_documents
from longgen.data.tokenization import encode_text
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.protocol import protocol
from longgen.evaluation.samples import Sample
from longgen.evaluation.summaries import Cell, Summary, means_by_length
from longgen.names import NEEDLE_DEPTHS
from longgen.strict import require

TASKS = ("fu", "keys")
ESSAYS = "needle/PaulGrahamEssays"  # below the data root, *.txt, as in Kamradt's repository


def prepare(
    task: str,
    length: int,
    count: int,
    tokenizer: Any,
    seed: int,
    data_root: Path | None = None,
    depths: Sequence[float] = NEEDLE_DEPTHS,
) -> Iterator[Sample]:
    """Prompts of one length, ``count`` for every depth.

    As Kamradt's code: the haystack is cut to the length without the protocol's buffer, and the needle stands at the end
    of the last sentence before its depth. Essays follow each other by name; there, in the order of the file system. The
    first sample of a depth begins with the first essay, as there; the others begin anywhere (our choice).

    ``fu`` is what Fu et al.'s code asks, artefacts included: it tokenises with special tokens whatever it then writes
    as text, so that a tokenizer that puts BOS first leaves it twice at the start of the book and once before the
    needle. ``keys`` has none of that.

    Args:
        task: ``fu``, or ``keys`` with another needle in every sample.
        length: tokens of prompt and answer.
        count: samples of every depth.
        tokenizer: a fast Hugging Face tokenizer.
        seed: of needles and places.
        data_root: folder that holds Kamradt's essays in ``needle/PaulGrahamEssays``; None for stand-in text.
        depths: 0 is the beginning, 1 the end.

    Raises:
        ConfigError: an unknown task, or the length leaves no room.
        ArtifactError: there are no essays.
    """
    if task not in TASKS:
        raise ConfigError(f"task is {task!r}: allowed are {', '.join(TASKS)}")
    require(length is not None, "length", length, "a number of tokens")
    strings = protocol("needle")[task]
    text, stand_in = _essays(data_root), data_root is None
    hay, periods = _haystack(tokenizer, text, length), _periods(tokenizer)
    special = strings["special_tokens"]
    beginning = _beginning(tokenizer, text, length) if special else hay
    opening = list(itertools.takewhile(set(tokenizer.all_special_ids).__contains__, beginning)) if special else []
    for depth in depths:
        for number in range(count):
            # a stream per sample: what it asks depends on nothing but its place
            generator = np.random.default_rng([seed, length, round(1000 * depth), number])
            names = {
                "place": str(generator.choice(strings.get("places", [""]))),
                "value": str(generator.integers(10**6, 10**7)),
            }
            needle_text = strings["needle"].format(**names)
            needle = tokenizer.encode(needle_text) if special else encode_text(tokenizer, needle_text)
            room = length - strings["buffer"] - len(needle)
            if room < 1:
                raise ConfigError(f"length is {length}: allowed are more than {strings['buffer'] + len(needle)} tokens")
            around = beginning[:room]
            if number:
                start = int(generator.integers(len(hay) - room + 1))
                around = [*opening, *hay[start : start + room]][:room]
            context = tokenizer.decode(_insert_needle(around, needle, depth, periods))
            question = strings["question"].format(**names)
            yield Sample(
                benchmark="needle",
                task=task,
                id=f"{depth:g}-{number}",
                prompt=strings["template"].format(context=context, question=question, **names),
                answers=[strings["answer"].format(**names)],
                max_new_tokens=strings["max_new_tokens"],
                length=length,
                meta={"depth": depth, "needle": needle_text, "stand_in": stand_in}
                | ({"special_tokens": True} if special else {}),
            )


def check(*arguments: Any, **options: Any) -> int:
    """Make the first prompt, and raise what `prepare` raises; 0: the length will do."""
    next(prepare(*arguments, **options), None)
    return 0


def score(sample: Sample, prediction: str) -> dict[str, float]:
    """Scores of an answer, 0 to 1.

    Returns:
        ``exact``: the answer occurs in the prediction, whatever its case. For ``fu`` also ``rouge1``, the published
        score divided by 10: ROUGE-1 F of the prediction with the whole needle, words stemmed. It punishes an answer
        that does not repeat the question, however right.
    """
    scores = {"exact": float(sample.answers[0].lower() in prediction.lower())}
    if sample.task == "fu":
        scores["rouge1"] = _rouge().score(sample.meta["needle"], prediction.strip())["rouge1"].fmeasure
    return scores


def summarise(means: Mapping[Cell, float]) -> list[Summary]:
    """Means over depths of every length, and over the whole grid, by task and metric: Fu et al.'s overall score."""
    return means_by_length(means)


@functools.cache
def _rouge() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise ConfigError(
            "task fu is scored with rouge-score, which is not installed: pip install 'longgen[eval]'"
        ) from None
    return RougeScorer(["rouge1"], use_stemmer=True)


def _essays(data_root: Path | None) -> str:
    """The text of the haystack."""
    if data_root is None:
        documents = load_documents(SourceSettings("pydoc-topics"))
    else:
        if not (data_root / ESSAYS).is_dir():
            raise ArtifactError(f"{data_root / ESSAYS} is no folder: put the essays of Kamradt's repository there")
        documents = load_documents(SourceSettings("text", str(data_root / ESSAYS)))
    text = "".join(document.text for document in documents)
    if not text.strip():
        raise ArtifactError(f"{data_root}/{ESSAYS}/*.txt hold no text: put the essays of Kamradt's repository there")
    return text


def _haystack(tokenizer: Any, text: str, length: int) -> list[int]:
    """Token ids of the haystack, at least ``length``: the essays, again and again."""
    tokens = _text_tokens(tokenizer, text)
    return (tokens * (length // len(tokens) + 1)) if len(tokens) < length else tokens


@functools.lru_cache(maxsize=16)
def _beginning(tokenizer: Any, text: str, length: int) -> list[int]:
    """The first tokens of the haystack by Fu et al.'s code: special ones, cut to ``length``, as text, and once more."""
    tokens, long_text = tokenizer.encode(text), text
    while len(tokens) < length:
        long_text += text
        tokens = tokenizer.encode(long_text)
    return tokenizer.encode(tokenizer.decode(tokens[:length]) if len(tokens) > length else long_text)


@functools.lru_cache(maxsize=4)
def _text_tokens(tokenizer: Any, text: str) -> list[int]:
    return encode_text(tokenizer, text)


def _periods(tokenizer: Any) -> frozenset[int]:
    """The tokens that end a sentence: a period alone, and as it follows a word."""
    return frozenset(encode_text(tokenizer, text)[-1] for text in (".", "a."))


def _insert_needle(hay: list[int], needle: list[int], depth: float, periods: frozenset[int]) -> list[int]:
    """``needle`` after the last sentence that ends before ``depth``; at depth 1 at the end, sentence or not."""
    place = len(hay) if depth == 1 else int(len(hay) * depth)
    if depth < 1:
        while place and hay[place - 1] not in periods:
            place -= 1
    return hay[:place] + needle + hay[place:]
