"""Readers by kind of source: documents and bad records in a fixed order, with a state to go on from later.

A reader's state is plain data that goes into JSON. A reader that is made with it yields what comes after.
"""

from __future__ import annotations

import contextlib
import copy
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longgen.data.packing.records import BadRecord, Document, document_of
from longgen.data.packing.settings import LongSourceSettings
from longgen.data.packing.source_files import READ_ERRORS, data_package, list_files, open_at
from longgen.errors import ArtifactError
from longgen.provenance import fingerprint

# A block is what one process tokenises at a time: it ends with the document that reaches either. Our choice.
BLOCK_DOCUMENTS = 256
BLOCK_CHARACTERS = 1 << 20


class Reader(ABC):
    """Yields the records of a source; ``state`` is the place after the last one that was yielded.

    Raises:
        ArtifactError: files are missing, or broken beyond one record.
    """

    suffixes: tuple[str, ...] = ()

    def __init__(self, settings: LongSourceSettings, state: dict[str, Any] | None = None) -> None:
        self.settings = settings
        self.files = list_files(settings.path, self.suffixes) if self.suffixes else []
        self._state = {"file": 0} if state is None else state

    @abstractmethod
    def __iter__(self) -> Iterator[Document | BadRecord]: ...

    def state(self) -> dict[str, Any]:
        """Where to go on, as plain data of its own."""
        return copy.deepcopy(self._state)

    def identity(self) -> str:
        """Fingerprint of names and sizes of the files: if these change, an interrupted packing must not continue."""
        return fingerprint([[path.as_posix(), path.stat().st_size] for path in self.files])

    def _remaining_files(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        """The files from the state on, each with its own part of the state; the state follows."""
        for number in range(self._state["file"], len(self.files)):
            yield self.files[number], self._state
            self._state = {"file": number + 1}


class TextReader(Reader):
    """UTF-8 text: every ``*.txt`` is a document, its domain is the name of the source."""

    suffixes = (".txt",)

    def __iter__(self) -> Iterator[Document | BadRecord]:
        for path, _ in self._remaining_files():
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                entry: Document | BadRecord = BadRecord(str(path), f"not UTF-8 ({error.reason} at byte {error.start})")
            else:
                blank = not text or text.isspace()
                entry = BadRecord(str(path), "empty") if blank else Document(self.settings.name, text)
            self._state = {"file": self._state["file"] + 1}
            yield entry


class JsonlReader(Reader):
    """JSON lines, plain or compressed: a record per line. Lines of nothing but white space are no records."""

    suffixes = (".jsonl", ".jsonl.gz", ".jsonl.zst")

    def __iter__(self) -> Iterator[Document | BadRecord]:
        for path, state in self._remaining_files():
            number = state.get("line", 0)
            try:
                with contextlib.closing(open_at(path, state.get("offset", 0))) as file:
                    while line := file.readline():
                        number += 1
                        place = {"line": number, "offset": self._state.get("offset", 0) + len(line)}
                        self._state = {"file": self._state["file"]} | place
                        if not line.isspace():
                            yield self._entry(line, f"{path}, line {number}")
            except READ_ERRORS as error:
                raise ArtifactError(f"{path}: cannot be read after line {number} ({error})") from None

    def _entry(self, line: bytes, place: str) -> Document | BadRecord:
        try:
            record = json.loads(line.decode())
        except UnicodeDecodeError as error:
            return BadRecord(place, f"not UTF-8 ({error.reason} at byte {error.start} of the line)")
        except (json.JSONDecodeError, RecursionError) as error:
            return BadRecord(place, f"not JSON ({error})")
        return document_of(record, place, self.settings)


class _StreamReader(Reader):
    """Records that Hugging Face ``datasets`` streams; it keeps the place in the stream."""

    _dataset: Any = None  # the one that is being streamed

    def state(self) -> dict[str, Any]:
        return super().state() | ({} if self._dataset is None else {"stream": self._dataset.state_dict()})

    def _stream(self, state: dict[str, Any], unit: str, **arguments: Any) -> Iterator[Document | BadRecord]:
        datasets = data_package("datasets")
        number = state.get("record", 0)
        try:
            self._dataset = datasets.load_dataset(streaming=True, **arguments)
            if "stream" in state:
                self._dataset.load_state_dict(state["stream"])
            for record in self._dataset:
                number += 1
                self._state = {"file": self._state["file"], "record": number}
                yield document_of(record, f"{unit} {number}", self.settings)
            self._dataset = None
        # datasets passes on whatever file systems, decoders and the network raise
        except Exception as error:
            again = "the same command goes on from the last shard"
            raise ArtifactError(
                f"{unit} {number + 1}: cannot be read ({type(error).__name__}: {error}); {again}"
            ) from None


class ParquetReader(_StreamReader):
    """Parquet files, each with a schema of its own."""

    suffixes = (".parquet",)
    format = "parquet"

    def __iter__(self) -> Iterator[Document | BadRecord]:
        for path, state in self._remaining_files():
            yield from self._stream(state, f"{path}, row", path=self.format, data_files=[str(path)], split="train")


class ArrowReader(ParquetReader):
    """Arrow files, as ``Dataset.save_to_disk`` writes them."""

    suffixes = (".arrow",)
    format = "arrow"


class HubReader(_StreamReader):
    """A dataset of the Hugging Face hub, or a local folder laid out like one, streamed: nothing is stored."""

    def __iter__(self) -> Iterator[Document | BadRecord]:
        source = self.settings
        arguments = {"path": source.path, "name": source.subset, "split": source.split, "revision": source.revision}
        if self._state["file"] == 0:
            yield from self._stream(self._state, f"{source.path} ({source.split}), record", **arguments)
            self._state = {"file": 1}


READERS: dict[str, type[Reader]] = {
    "hub": HubReader,
    "jsonl": JsonlReader,
    "parquet": ParquetReader,
    "arrow": ArrowReader,
    "text": TextReader,
}


@dataclass(frozen=True)
class Block:
    """Consecutive records: documents, bad ones, and the reader's state after them."""

    documents: list[Document]
    bad: list[BadRecord]
    state: dict[str, Any]


def read_blocks(reader: Reader) -> Iterator[Block]:
    """All that ``reader`` has left, in blocks; where they end depends on the records alone."""
    documents: list[Document] = []
    bad: list[BadRecord] = []
    characters = 0
    for entry in reader:
        if isinstance(entry, BadRecord):
            bad.append(entry)
        else:
            documents.append(entry)
            characters += len(entry.text)
        if len(documents) + len(bad) >= BLOCK_DOCUMENTS or characters >= BLOCK_CHARACTERS:
            yield Block(documents, bad, reader.state())
            documents, bad, characters = [], [], 0
    if documents or bad:
        yield Block(documents, bad, reader.state())
