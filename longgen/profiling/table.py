"""Records as text to read in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from longgen import tables
from longgen.busy import RULE, SIGN, is_disturbed, warning
from longgen.records.schema import MEASURED

ABSENT = "-"


def aligned(headings: Sequence[str], rows: Sequence[Sequence[str]], keys: int, words: int = 0) -> list[str]:
    """A table of ``rows``, as wide as the terminal allows.

    Args:
        headings: of the columns.
        rows: cells, one for each heading.
        keys: how many columns, the first, tell what a row is.
        words: how many, the first, hold words rather than numbers.
    """
    table = tables.Table(headings[:words], headings[words:], keys=keys)
    for row in rows:
        table.add(*row)
    return table.lines(tables.terminal_width())


def speed_table(
    headings: Sequence[str],
    records: Sequence[Mapping[str, Any]],
    cells: Callable[[Mapping[str, Any]], Sequence[str]],
    subject: Callable[[Mapping[str, Any]], str],
    keys: int,
    words: int,
) -> str:
    """A row per record that was measured or composed, a line per other, and the rule of what is disturbed.

    Args:
        headings: of the columns.
        records: with status, reason and the columns of `longgen.busy`.
        cells: of a record that was measured.
        subject: what a record that was not is about.
        keys: how many columns, the first, tell what a row is.
        words: how many, the first, hold words rather than numbers.
    """
    rows = [cells(record) for record in records if record["status"] == MEASURED]
    rest = [record for record in records if record["status"] != MEASURED]
    lines = [f"{record['status']}: {subject(record)}: {record['reason']}" for record in rest]
    return "\n".join([*aligned(headings, rows, keys, words), *lines, *_disturbance_lines(records)])


def timed_cells(record: Mapping[str, Any], style: str) -> tuple[str, str]:
    """Milliseconds in ``style`` and the speed-up of a record of slices, each with `SIGN` where it is disturbed."""
    cells = []
    for text, rounds in (
        (number(record["seconds"] and 1e3 * record["seconds"], style), "spread"),
        (number(record["speedup"], ".3f"), "speedup_spread"),
    ):
        disturbed = text != ABSENT and is_disturbed(record["others"], record["steal"], record[rounds])
        cells.append(text + SIGN * bool(disturbed))
    return cells[0], cells[1]


def _disturbance_lines(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """A warning and the rule as wide as the terminal allows, if any of ``records`` is disturbed."""
    problem = warning(records)
    if problem is None:
        return []
    width = tables.terminal_width()
    return [line for text in (f"warning: {problem}", RULE) for line in tables.wrapped(text, width)]


def number(value: float | None, style: str) -> str:
    """``value`` in a format such as ``.2f``; a dash for None."""
    return ABSENT if value is None else format(value, style)
