"""Scores in the terminal, with a word on stand-in data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from longgen.tables import Table


def print_scores(
    names: Sequence[str], numbers: Sequence[str], rows: Sequence[Sequence[str]], records: Sequence[dict[str, Any]]
) -> None:
    """Print a table.

    Args:
        names: headings of columns of text.
        numbers: headings of columns of numbers, to their right.
        rows: cells.
        records: that they are made of; if one is of stand-in data, the table says so.
    """
    stand_in = any(record["stand_in"] for record in records)
    table = Table(names, numbers, caption="made of stand-in data: no scores of the benchmarks" if stand_in else "")
    for row in rows:
        table.add(*row)
    table.print()
