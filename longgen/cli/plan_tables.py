"""What `longgen plan` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from longgen.units import binary_size, scaled

if TYPE_CHECKING:
    from rich.table import Table

_IDEAL = "ideal: speed-up over full attention, predicted and not measured"


def print_plans(rows: list[dict[str, Any]], title: str) -> None:
    """A line per row of costs."""
    first = rows[0]
    if "model" in first:
        title = f"{first['model']}, {first['full_layers']}/{first['num_layers']} layers full ({first['placement']})"
    batches = ["batch"] if len({row.get("batch") for row in rows}) > 1 else []
    names = [name for name in ("variant",) if name in first]
    measures = ["length", *batches, "KV cache", "KV saved", "prefill\nFLOPs"]
    table = plain_table(title, names, [*measures, "ideal\nprefill", "ideal\ndecode", "ideal\ntraining"])
    for row in rows:
        table.add_row(
            *(row[name] for name in names),
            f"{row['length']:,}",
            *(str(row[name]) for name in batches),
            binary_size(row["kv_bytes"]),
            f"{100 * (1 - row['kv_fraction']):.1f} %",
            scaled(row["prefill_flops"], 1000, ("", "k", "M", "G", "T", "P")),
            *speedups(row),
        )
    print_table(table)


def plain_table(title: str, names: list[str], numbers: list[str], caption: str = _IDEAL) -> Table:
    """A table with columns of words, then columns of numbers."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, caption=caption, box=box.SIMPLE)
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def print_table(table: Table) -> None:
    """To the terminal; to a file, without cutting columns."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # the 80 that rich assumes for a file would cut the columns
    console.print(table)


def speedups(row: dict[str, Any]) -> list[str]:
    """The ideals of prefill, decode and training."""
    return [f"{row[f'ideal_{stage}_speedup']:.2f}x" for stage in ("prefill", "decode", "training")]
