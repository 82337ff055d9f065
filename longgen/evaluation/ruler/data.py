"""What the tasks need and the benchmark does not bring along: official files below a data root, or stand-ins."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from longgen.errors import ArtifactError
from longgen.evaluation.ruler import stand_ins
from longgen.evaluation.ruler.essays import Essays, plain_sentences, punkt
from longgen.evaluation.sources import require_field

T = TypeVar("T")

STAND_IN = "stand-in data"
SURROGATE = re.compile("[\ud800-\udfff]")  # half of a pair, which JSON can spell
FOLDER = "ruler"  # below the data root; the files are those of the official scripts/data/synthetic/json
SOURCES = {
    "PaulGrahamEssays.json": "made by the official download_paulgraham_essay.py",
    "squad.json": "SQuAD's dev-v2.0.json",
    "hotpotqa.json": "HotpotQA's hotpot_dev_distractor_v1.json",
    "english_words.json": "in the official repository, by Git LFS",
}


@dataclass(frozen=True)
class QAQuestion:
    """A question, its answers (one is enough), its documents and others near them, as indices."""

    text: str
    answers: list[str]
    documents: list[int]
    more: list[int]


class RulerData:
    """Data of one task.

    Args:
        root: folder that holds ``ruler/`` with the official files; None for stand-ins.

    Attributes:
        stand_in: whether a stand-in was used.
    """

    def __init__(self, root: Path | None) -> None:
        self._root = root
        self.stand_in = False

    def _read(self, name: str, parse: Callable[[Any, str], T], stand_in: Callable[[], T]) -> T:
        """An official file, parsed, or its stand-in if there is no data root.

        Raises:
            ArtifactError: the file is missing, damaged or has another schema; with record and field.
        """
        if self._root is None:
            self.stand_in = True
            return stand_in()
        path = self._root / FOLDER / name
        try:
            content = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            raise ArtifactError(f"{path} does not exist: it is {SOURCES[name]} (docs/ruler.md)") from None
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"{path} is not JSON, it should be {SOURCES[name]}: {error}") from None
        return parse(content, str(path))

    def essays(self) -> Essays:
        """The haystack ``essay``."""
        text = self._read(
            "PaulGrahamEssays.json", lambda content, place: _text(content, "text", place), stand_ins.essay
        )
        return Essays(text, plain_sentences if self._root is None else punkt())

    def many_words(self) -> list[str]:
        """Words for lists that are longer than wonderwords has words."""
        return self._read("english_words.json", _words, stand_ins.many_words)

    def questions(self, dataset: str) -> tuple[list[QAQuestion], list[str]]:
        """Questions and documents of ``squad`` or ``hotpotqa``."""
        if dataset == "squad":
            return self._read("squad.json", squad, lambda: squad(stand_ins.squad(), STAND_IN))
        return self._read("hotpotqa.json", hotpotqa, lambda: hotpotqa(stand_ins.hotpotqa(), STAND_IN))


def squad(content: Any, place: str) -> tuple[list[QAQuestion], list[str]]:
    """SQuAD 2.0: answerable questions; the other paragraphs of an article are near its own.

    Args:
        content: its JSON.
        place: the file, for error messages.

    Raises:
        ArtifactError: a field is missing, or is not what it should be.
    """
    articles = [
        [(_text(paragraph, "context", where), _answerable(paragraph, where)) for where, paragraph in paragraphs]
        for where, article in _each(content, "data", place)
        if (paragraphs := _each(article, "paragraphs", where))
    ]
    documents = sorted({context for article in articles for context, _ in article})
    index = {document: number for number, document in enumerate(documents)}
    questions = []
    for article in articles:
        numbers = [index[context] for context, _ in article]
        for (_, pairs), own in zip(article, numbers, strict=True):
            more = [number for number in numbers if number != own]
            questions += [QAQuestion(text, answers, [own], more) for text, answers in pairs]
    if not questions:
        raise ArtifactError(f"{place} has no question to ask: allowed are one or more with is_impossible false")
    return questions, documents


def _answerable(paragraph: Any, place: str) -> list[tuple[str, list[str]]]:
    """The questions of a paragraph of SQuAD that have answers, with these."""
    questions = []
    for where, each in _each(paragraph, "qas", place):
        if not _field(each, "is_impossible", bool, where):
            answers = _each(each, "answers", where)
            require_field(bool(answers), where, "answers", [], "a list of one or more, as is_impossible is false")
            questions.append((_text(each, "question", where), [_text(answer, "text", at) for at, answer in answers]))
    return questions


def hotpotqa(content: Any, place: str) -> tuple[list[QAQuestion], list[str]]:
    """HotpotQA, distractor setting: all ten paragraphs of a question are its own.

    Args:
        content: its JSON; ``context`` may be a list of [title, sentences], or {"title": [...], "sentences": [...]} as
            the Hugging Face hub has it.
        place: the file, for error messages.

    Raises:
        ArtifactError: a field is missing, or is not what it should be.
    """
    require_field(
        isinstance(content, list) and bool(content), place, "the file", content, "a list of one or more records"
    )
    rows = [(f"{place}, record {number}", row) for number, row in enumerate(content, start=1)]
    contexts = [_paragraphs(row, where) for where, row in rows]
    documents = sorted({document for context in contexts for document in context})
    index = {document: number for number, document in enumerate(documents)}
    questions = [
        QAQuestion(
            _text(row, "question", where), [_text(row, "answer", where)], [index[document] for document in context], []
        )
        for (where, row), context in zip(rows, contexts, strict=True)
    ]
    return questions, documents


def _paragraphs(row: Any, place: str) -> list[str]:
    """The paragraphs of a record of HotpotQA, titles first."""
    context = _field(row, "context", (list, dict), place)
    if isinstance(context, dict):
        titles = _field(context, "title", list, f"{place}, context")
        sentences = _field(context, "sentences", list, f"{place}, context")
        same = len(titles) == len(sentences)
        require_field(same, f"{place}, context", "title", titles, f"a list of {len(sentences)}, as sentences")
        context = [[title, lines] for title, lines in zip(titles, sentences, strict=True)]
    documents = []
    for number, pair in enumerate(context):
        right = isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], list)
        right = right and all(isinstance(sentence, str) for sentence in pair[1])
        require_field(right, place, f"context[{number}]", pair, "a title and a list of sentences")
        documents.append(f"{pair[0]}\n{''.join(pair[1])}")
    require_field(bool(documents), place, "context", context, "a list of one or more paragraphs")
    return documents


def _words(content: Any, place: str) -> list[str]:
    names = list(content) if isinstance(content, dict) else []
    require_field(bool(names), place, "the file", content, "a mapping of numbers to words")
    return [_text(content, name, place) for name in names]


_KINDS: dict[Any, str] = {str: "text", bool: "true or false", list: "a list", (list, dict): "a list or a mapping"}


def _field(row: Any, name: str, kind: Any, place: str) -> Any:
    """The value of a field. Raises ArtifactError if it is missing or of another kind."""
    require_field(isinstance(row, dict), place, "the value", row, f"a mapping with {name}")
    if name not in row:
        raise ArtifactError(f"{place}: {name} is missing, allowed is {_KINDS[kind]}")
    require_field(isinstance(row[name], kind), place, name, row[name], _KINDS[kind])
    return row[name]


def _text(row: Any, name: str, place: str) -> str:
    """A field that holds more than white space, all of which UTF-8 can hold."""
    text = _field(row, name, str, place)
    require_field(bool(text.strip()), place, name, text, "text that is not blank")
    require_field(text.isascii() or not SURROGATE.search(text), place, name, text, "UTF-8 text, without surrogates")
    return text


def _each(row: Any, name: str, place: str) -> list[tuple[str, Any]]:
    """The values of a list, each with its place."""
    values = _field(row, name, list, place)
    inside = f"{place}." if place.endswith("]") else f"{place}, "
    return [(f"{inside}{name}[{number}]", value) for number, value in enumerate(values)]
