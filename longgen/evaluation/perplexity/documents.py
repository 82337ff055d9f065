"""Where the documents come from, and the rows of tokens that are made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from longgen.data.packing.readers import READERS
from longgen.data.packing.records import BadRecord
from longgen.data.packing.settings import LongSourceSettings
from longgen.data.sources import SourceSettings, load_documents
from longgen.data.synthetic.corpus import load_corpus
from longgen.data.synthetic.recall import haystack
from longgen.data.tokenization import TextEncoder
from longgen.errors import ArtifactError, ConfigError
from longgen.evaluation.recall import require_bytes
from longgen.evaluation.sources import hub_dataset
from longgen.names import HELDOUT
from longgen.progress import progress_bar
from longgen.strict import require

# PG-19 (Rae et al. 2019, arXiv 1911.05507) as Parquet: `datasets` no longer runs the loading script of deepmind/pg19.
DATASET = "emozilla/pg19-test"
STAND_IN = ("python-stdlib", "pydoc-topics")
# Of a stand-in document per token wanted. A token has fewer, so that documents are long enough. Our choice.
CHARACTERS_PER_TOKEN = 8


@dataclass(frozen=True)
class LongText:
    """Documents in an order that does not change.

    Attributes:
        source: what they are, for the results file.
        stand_in: they are what every machine has, and no benchmark.
        documents: their texts.
    """

    source: str
    stand_in: bool
    documents: Iterator[str]


@dataclass(frozen=True)
class LongRows:
    """Rows of text in tokens.

    Attributes:
        source: what they are of, for the results file.
        stand_in: the text is what every machine has, and no benchmark.
        tokens: [documents, length + 1] int64.
        short: documents among them in the source that are too short.
        bos: whether every row begins with the tokenizer's BOS.
    """

    source: str
    stand_in: bool
    tokens: np.ndarray
    short: int
    bos: bool


def read_rows(text: str | None, tokenizer: Any, length: int, count: int, seed: int) -> LongRows:
    """The rows of what ``--text`` asks for: of a corpus's held-out text excerpts, else as `open_text` and `long_rows`.

    Args:
        text: what `open_text` takes, or the folder of a corpus (`longgen prepare --stage corpus`).
        tokenizer: of the model.
        length: of a row, less one, in tokens.
        count: of rows.
        seed: of the stand-in's orders, and of the places of excerpts.

    Raises:
        ConfigError, ArtifactError: as these; the corpus is damaged, or the model does not read its bytes.
    """
    if text is not None and (Path(text) / "heldout.npy").is_file():
        require_bytes(tokenizer)
        heldout = load_corpus(Path(text)).heldout
        require(length < len(heldout), "--length", length, f"less than the {len(heldout)} tokens of held-out text")
        generator = np.random.default_rng([seed, length])
        rows = np.stack([haystack(generator, heldout, length + 1) for _ in range(count)])
        return LongRows(HELDOUT, False, rows.astype(np.int64), 0, False)
    return long_rows(open_text(text, length, seed), tokenizer, length, count)


def open_text(text: str | None, length: int, seed: int) -> LongText:
    """The documents that ``--text`` asks for; they are read as they are taken.

    Args:
        text: a ``.txt`` (a document) or JSON lines (a document each, field ``text``; ``.gz`` and ``.zst`` too), or a
            folder of either; ``hub:`` for PG-19's test split, ``hub:owner/name[@revision]`` for another dataset's;
            None for a stand-in: files of Python's standard library and pydoc's topics, end to end in random orders.
        length: in tokens, of which stand-in documents are made.
        seed: of the stand-in's orders.

    Raises:
        ConfigError: there is no such text, or a package is missing that reads it.
        ArtifactError: it is broken.
    """
    if text is None:
        return LongText(f"stand-in: {' and '.join(STAND_IN)}", True, _stand_in(length * CHARACTERS_PER_TOKEN, seed))
    if hub := hub_dataset(Path(text), DATASET):
        name, revision = hub
        address = f"hub:{name}" + (f"@{revision}" if revision else "")
        source = f"PG-19 test ({address})" if name == DATASET else f"{address}, test"
        return LongText(source, False, _read("hub", name, revision))
    path = Path(text)
    return LongText(path.resolve().name, False, _read(_kind_of(path), text))


def long_rows(text: LongText, tokenizer: Any, length: int, count: int) -> LongRows:
    """The first ``length`` + 1 tokens, BOS included if the tokenizer has one, of the first ``count`` documents with
    so many.

    Raises:
        ConfigError: there are fewer.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    encode = TextEncoder(tokenizer)
    rows: list[list[int]] = []
    num_documents = 0
    with progress_bar(count, text.source, "document") as bar:
        while len(rows) < count and (document := next(text.documents, None)) is not None:
            num_documents += 1
            tokens = bos + encode(document)
            if len(tokens) > length:
                rows.append(tokens[: length + 1])
                bar.update()
    if len(rows) < count:
        raise ConfigError(
            f"--documents is {count}: allowed is at most {len(rows)}, so many of the {num_documents} documents of "
            f"{text.source} have the {length + 1 - len(bos):,} tokens that --length {length} needs"
        )
    return LongRows(text.source, text.stand_in, np.array(rows, dtype=np.int64), num_documents - count, bool(bos))


def _kind_of(path: Path) -> str:
    """Which of `READERS` a local file or folder is for."""
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    kinds = {kind for kind in ("text", "jsonl") for file in files if file.name.endswith(READERS[kind].suffixes)}
    if len(kinds) != 1:
        fault = "which is both" if kinds else "which is none"
        raise ConfigError(f"--text is '{path}', {fault}: allowed are .txt or .jsonl files, or a folder of either")
    return kinds.pop()


def _read(kind: str, path: str, revision: str | None = None) -> Iterator[str]:
    settings = LongSourceSettings("--text", kind, path, split="test", revision=revision, source_field=None)
    for entry in READERS[kind](settings):
        if isinstance(entry, BadRecord):
            raise ArtifactError(str(entry))
        yield entry.text


def _stand_in(characters: int, seed: int) -> Iterator[str]:
    """As many documents as there are files: each begins with another, and goes on with others in a random order."""
    texts = [document.text for kind in STAND_IN for document in load_documents(SourceSettings(kind))]
    for number, begin in enumerate(np.random.default_rng(seed).permutation(len(texts)).tolist()):
        others = np.random.default_rng([seed, number]).permutation(len(texts)).tolist()
        others.remove(begin)
        parts = [texts[begin]]
        total = len(texts[begin])
        while total < characters and others:
            parts.append(texts[others.pop()])
            total += len(parts[-1])
        yield "\n\n".join(parts)
