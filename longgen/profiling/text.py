"""Records as text to read in a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """A line per row, its cells set to the right of columns that are as wide as they must be."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def number(value: float | None, style: str) -> str:
    """``value`` in a format such as ``.2f``; a dash for None."""
    return "-" if value is None else format(value, style)
