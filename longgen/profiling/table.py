"""Records as text to read in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from longgen import tables
from longgen.busy import RULE, SIGN, is_disturbed, warning
from longgen.records.kernels import InferenceSpeedRecord, ServingSpeedRecord, TrainingSpeedRecord
from longgen.records.schema import MEASURED

Timed = TypeVar("Timed", TrainingSpeedRecord, InferenceSpeedRecord, ServingSpeedRecord)
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
    records: Sequence[Timed],
    cells: Callable[[Timed], Sequence[str]],
    subject: Callable[[Timed], str],
    keys: int,
    words: int,
) -> str:
    """A row per record that was measured or composed, a line per other, and the rule of what is disturbed.

    Args:
        headings: of the columns.
        records: of one kind.
        cells: of a record that was measured.
        subject: what a record that was not is about.
        keys: how many columns, the first, tell what a row is.
        words: how many, the first, hold words rather than numbers.
    """
    lines = aligned(headings, [cells(each) for each in records if each.status == MEASURED], keys, words)
    lines += [f"{each.status}: {subject(each)}: {each.reason}" for each in records if each.status != MEASURED]
    if problem := warning(records):
        width = tables.terminal_width()
        lines += [line for text in (f"warning: {problem}", RULE) for line in tables.wrapped(text, width)]
    return "\n".join(lines)


def timed_cells(record: Timed, style: str) -> tuple[str, str]:
    """Milliseconds in ``style`` and the speed-up of a record of slices, each with `SIGN` where it is disturbed."""
    cells = []
    for text, rounds in (
        (number(record.seconds and 1e3 * record.seconds, style), record.spread),
        (number(record.speedup, ".3f"), record.speedup_spread),
    ):
        disturbed = text != ABSENT and is_disturbed(record.others, record.steal, rounds)
        cells.append(text + SIGN * bool(disturbed))
    return cells[0], cells[1]


def number(value: float | None, style: str) -> str:
    """``value`` in a format such as ``.2f``; a dash for None."""
    return ABSENT if value is None else format(value, style)
