"""Records as sources hold them, checked: documents, or the reason why one is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from longgen.data.packing.settings import LongSourceSettings


@dataclass(frozen=True)
class Document:
    """A document: its domain (SlimPajama: the RedPajama set), and its text, never blank."""

    domain: str
    text: str


@dataclass(frozen=True)
class BadRecord:
    """A record that is no document: where it is (file and line, row or record), and what is wrong with it."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class _BadFieldError(ValueError):
    pass


def _field(record: Any, path: str) -> str:
    value = record
    for part in path.split("."):
        if not isinstance(value, Mapping):
            raise _BadFieldError(f"field {path}: no {part!r} in {type(value).__name__}, allowed is a mapping")
        if part not in value:
            raise _BadFieldError(f"field {path} is missing")
        value = value[part]
    if not isinstance(value, str):
        raise _BadFieldError(f"field {path} is {type(value).__name__}, allowed is text")
    if not value or value.isspace():
        raise _BadFieldError(f"field {path} is empty")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair
        raise _BadFieldError(f"field {path} is not UTF-8 text ({error.reason} at character {error.start})") from None
    return value


def document_of(record: Any, place: str, settings: LongSourceSettings) -> Document | BadRecord:
    """The document in a decoded record, by the fields that ``settings`` name."""
    try:
        text = _field(record, settings.text_field)
        domain = settings.name if settings.source_field is None else _field(record, settings.source_field)
    except _BadFieldError as error:
        return BadRecord(place, str(error))
    return Document(domain, text)
