"""Scores in the terminal, with a word on stand-in data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


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
    from rich import box
    from rich.console import Console
    from rich.table import Table

    stand_in = any(record["stand_in"] for record in records)
    table = Table(caption="made of stand-in data: no scores of the benchmarks" if stand_in else None, box=box.SIMPLE)
    for column in names:
        table.add_column(column, no_wrap=True)
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    Console(width=None if Console().is_terminal else 120).print(table)
