"""Where text comes from: loaders by kind. Each yields whole documents in an order that does not change."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from longgen.errors import ArtifactError, ConfigError, require


@dataclass(frozen=True)
class SourceSettings:
    """One corpus. ``kind`` is a name in `SOURCES`; ``path`` is for those that read files."""

    kind: str
    path: str | None = None


@dataclass(frozen=True)
class DataSettings:
    """Text, tokenizer and held-out split."""

    sources: list[SourceSettings]
    tokenizer: Literal["bytes"] = "bytes"
    heldout_fraction: float = 0.1

    def __post_init__(self) -> None:
        require(len(self.sources) > 0, "sources", self.sources, "at least one source")
        require(0 < self.heldout_fraction < 1, "heldout_fraction", self.heldout_fraction, "a number within 0..1")


@dataclass(frozen=True)
class SourceDocument:
    """One document: where it is from, a name that is unique within its source, and its text."""

    source: str
    name: str
    text: str


def _python_stdlib(settings: SourceSettings) -> Iterator[SourceDocument]:
    """The top-level modules of this Python's standard library: real code, on every machine."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        yield SourceDocument("python-stdlib", path.name, path.read_text(encoding="utf-8", errors="replace"))


def _pydoc_topics(settings: SourceSettings) -> Iterator[SourceDocument]:
    """The language reference that pydoc ships: real prose, on every machine."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield SourceDocument("pydoc-topics", name, topics[name])


def _text(settings: SourceSettings) -> Iterator[SourceDocument]:
    """Local UTF-8 text: one file, or every ``*.txt`` below a folder."""
    if settings.path is None:
        raise ConfigError("source of kind 'text' has no path: give a .txt file or a folder of them")
    root = Path(settings.path)
    files = [root] if root.is_file() else sorted(root.rglob("*.txt"))
    if not files:
        raise ArtifactError(f"{root} is not a file and holds no *.txt: give a .txt file or a folder of them")
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ArtifactError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from None
        yield SourceDocument("text", path.relative_to(root).as_posix() if path != root else path.name, text)


SOURCES: dict[str, Callable[[SourceSettings], Iterator[SourceDocument]]] = {
    "python-stdlib": _python_stdlib,
    "pydoc-topics": _pydoc_topics,
    "text": _text,
}


def load_documents(settings: SourceSettings) -> Iterator[SourceDocument]:
    """The documents of one source.

    Raises:
        ConfigError: unknown kind.
        ArtifactError: files missing or not UTF-8.
    """
    if settings.kind not in SOURCES:
        raise ConfigError(f"source kind is {settings.kind!r}: allowed are {', '.join(SOURCES)}")
    return SOURCES[settings.kind](settings)
