"""What the tasks need and the benchmark does not bring along: official files below a data root, or stand-ins."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from longgen.errors import ArtifactError
from longgen.evaluation.ruler import stand_ins
from longgen.evaluation.ruler.essays import Essays, plain_sentences, punkt

T = TypeVar("T")

FOLDER = "ruler"  # below the data root; the files are those of the official scripts/data/synthetic/json
SOURCES = {
    "PaulGrahamEssays.json": "made by the official download_paulgraham_essay.py",
    "squad.json": "SQuAD's dev-v2.0.json",
    "hotpotqa.json": "HotpotQA's hotpot_dev_distractor_v1.json",
    "english_words.json": "in the official repository, by Git LFS",
}


@dataclass(frozen=True)
class Question:
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

    def _read(self, name: str, parse: Callable[[Any], T], stand_in: Callable[[], T]) -> T:
        """An official file, parsed, or its stand-in if there is no data root.

        Raises:
            ArtifactError: the file is missing, damaged or has another schema.
        """
        if self._root is None:
            self.stand_in = True
            return stand_in()
        path = self._root / FOLDER / name
        try:
            return parse(json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            raise ArtifactError(f"{path} does not exist: it is {SOURCES[name]} (docs/ruler.md)") from None
        except ValueError as error:
            raise ArtifactError(f"{path} is not JSON, it should be {SOURCES[name]}: {error}") from None
        except (KeyError, TypeError, AttributeError):
            raise ArtifactError(f"{path} has not the schema of {SOURCES[name]}") from None

    def essays(self) -> Essays:
        """The haystack ``essay``."""
        text = self._read("PaulGrahamEssays.json", lambda found: str(found["text"]), stand_ins.essay)
        return Essays(text, plain_sentences if self._root is None else punkt())

    def many_words(self) -> list[str]:
        """Words for lists that are longer than wonderwords has words."""
        return self._read("english_words.json", lambda found: list(found.values()), stand_ins.many_words)

    def questions(self, dataset: str) -> tuple[list[Question], list[str]]:
        """Questions and documents of ``squad`` or ``hotpotqa``."""
        if dataset == "squad":
            return self._read("squad.json", squad, lambda: squad(stand_ins.squad()))
        return self._read("hotpotqa.json", hotpotqa, lambda: hotpotqa(stand_ins.hotpotqa()))


def squad(found: dict[str, Any]) -> tuple[list[Question], list[str]]:
    """SQuAD 2.0: answerable questions; the other paragraphs of an article are near its own."""
    articles = [article["paragraphs"] for article in found["data"]]
    documents = sorted({paragraph["context"] for article in articles for paragraph in article})
    index = {document: number for number, document in enumerate(documents)}
    questions = []
    for article in articles:
        numbers = [index[paragraph["context"]] for paragraph in article]
        for paragraph, own in zip(article, numbers, strict=True):
            more = [number for number in numbers if number != own]
            questions += [
                Question(each["question"], [answer["text"] for answer in each["answers"]], [own], more)
                for each in paragraph["qas"]
                if not each["is_impossible"]
            ]
    return questions, documents


def hotpotqa(found: list[dict[str, Any]]) -> tuple[list[Question], list[str]]:
    """HotpotQA, distractor setting: all ten paragraphs of a question are its own."""
    contexts = [[f"{title}\n{''.join(sentences)}" for title, sentences in each["context"]] for each in found]
    documents = sorted({document for context in contexts for document in context})
    index = {document: number for number, document in enumerate(documents)}
    questions = [
        Question(each["question"], [each["answer"]], [index[document] for document in context], [])
        for each, context in zip(found, contexts, strict=True)
    ]
    return questions, documents
