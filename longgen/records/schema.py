"""How the records of results files are declared: a dataclass per kind, a field per column with what it means.

`longgen.results.save_result` checks what is written against them, `longgen.reporting.frames` what is read, and
docs/results-format.md is written from them (`columns_table`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from typing import Any, get_args, get_type_hints

# The status of a record. Only the first two are final: the others are tried again in another session.
MEASURED, UNSUPPORTED, FAILED, NOT_MEASURED = "measured", "unsupported", "failed", "not measured"
STATUSES = (MEASURED, UNSUPPORTED, FAILED, NOT_MEASURED)

TEXT, FLAG, NUMBER, NUMBERS = "text", "flag", "number", "numbers"
_TYPES = {str: TEXT, bool: FLAG, int: NUMBER, float: NUMBER, list[float]: NUMBERS}


def column(meaning: str, newer: bool = False, default: Any = MISSING) -> Any:
    """A column of a record class.

    Args:
        meaning: for readers; neighbours of the same meaning share a row of the documentation.
        newer: files of earlier versions lack it: there it is null in every record.
        default: of a record that is made without it; files have it all the same.
    """
    return field(default=None if newer else default, metadata={"meaning": meaning, "newer": newer}, kw_only=True)


@dataclass(frozen=True)
class Column:
    """A column as its record class declares it.

    Attributes:
        name: key in the record.
        type: `TEXT`, `FLAG` (true or false), `NUMBER`, or `NUMBERS`: a list of one per sample, ``n`` of them.
        nullable: whether it may be null in a record that was measured.
        newer: whether files of earlier versions lack it.
        meaning: for readers.
    """

    name: str
    type: str
    nullable: bool
    newer: bool
    meaning: str

    def allows(self, value: object, samples: object = None) -> bool:
        """Whether ``value`` may stand in a record that was measured, of ``samples`` samples if it has ``n``."""
        if value is None:
            return self.nullable or self.newer
        if self.type == NUMBERS:
            return isinstance(value, list) and len(value) == samples and all(map(_is_number, value))
        if self.type == NUMBER:
            return _is_number(value)
        return isinstance(value, str if self.type == TEXT else bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@cache
def columns(record: type) -> tuple[Column, ...]:
    """The columns of a record class: its own first, then those of what it shares with others."""
    hints = get_type_hints(record)
    own = [each for each in fields(record) if each.name in record.__annotations__]
    rest = [each for each in fields(record) if each.name not in record.__annotations__]
    return tuple(
        Column(each.name, *_type(hints[each.name]), each.metadata["newer"], each.metadata["meaning"])
        for each in own + rest
    )


def _type(hint: Any) -> tuple[str, bool]:
    options = [option for option in get_args(hint) if option is not type(None)]
    nullable = type(None) in get_args(hint)
    return _TYPES[options[0] if nullable else hint], nullable


def row_of(record: Any) -> dict[str, Any]:
    """A record of one of the classes as it stands in JSON: values by column, in the order of `columns`."""
    return {each.name: getattr(record, each.name) for each in columns(record.__class__)}


def check_record(record: type, values: Mapping[str, Any], where: str) -> None:
    """Check a record that is to be written, or that was read to be gone on with.

    `newer` columns may be missing: a session may go on with a file of an earlier version.

    Raises:
        TypeError: a column is missing, unknown, or of another type than ``record`` declares; or the status is unknown.
    """
    known = {each.name: each for each in columns(record)}
    if missing := {each.name for each in known.values() if not each.newer} - values.keys():
        raise TypeError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown := values.keys() - known.keys():
        raise TypeError(f"{where} has {', '.join(sorted(unknown))}, which {record.__name__} does not declare")
    if (status := values.get("status", MEASURED)) not in STATUSES:
        raise TypeError(f"{where}: status is {status!r}: allowed are {', '.join(STATUSES)}")
    for name, each in known.items():
        value = values.get(name)
        if not (each.allows(value, values.get("n")) or (value is None and status != MEASURED)):
            raise TypeError(
                f"{where}: {name} is {value!r}: allowed is {each.type}{' or null' if each.nullable else ''}"
            )


def columns_table(record: type) -> str:
    """The columns as a table in Markdown; neighbours of the same meaning in one row."""
    rows: list[tuple[list[str], str]] = []
    for each in columns(record):
        if rows and rows[-1][1] == each.meaning:
            rows[-1][0].append(f"`{each.name}`")
        else:
            rows.append(([f"`{each.name}`"], each.meaning))
    lines = [f"| {', '.join(names)} | {meaning} |" for names, meaning in rows]
    return "\n".join(["| column | meaning |", "|---|---|", *lines]) + "\n"
