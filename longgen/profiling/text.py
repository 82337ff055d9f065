"""Records as text to read in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from longgen import tables


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


def number(value: float | None, style: str) -> str:
    """``value`` in a format such as ``.2f``; a dash for None."""
    return "-" if value is None else format(value, style)
