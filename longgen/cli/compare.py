"""`longgen compare`: ratio, placement, pattern and baselines of cached runs side by side, in the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longgen.cli.figures import Results
from longgen.errors import ConfigError
from longgen.reporting import need_report_packages
from longgen.strict import require

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from longgen.reporting.run import Run


def compare(
    run: Annotated[list[str], typer.Argument(help="Runs: NAME for results/NAME, or published/NAME.")],
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMPARISON",
            help="Only what an ablation sets side by side: ratio, placement, pattern, or baseline (KV reductions at "
            "inference among them); repeat for several tables.",
            show_default="all rows",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list of rows instead.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead.")] = False,
    results: Results = Path("results"),
) -> None:
    """Compare the variants of one or several runs: quality with 95 % intervals and cost, the best values bold.

    Beside the trained variants stands the full one with its KV cache reduced at inference, where that was evaluated.
    All values are measured; what was not measured is empty.
    """
    if as_json and as_csv:
        raise ConfigError("--json and --csv are given: allowed is one of them")
    need_report_packages()
    import pandas as pd

    from longgen.reporting.comparison import comparison_table
    from longgen.reporting.families import COMPARISONS, side_by_side
    from longgen.reporting.run import open_run

    for name in by or []:
        require(name in COMPARISONS, "--by", name, ", ".join(COMPARISONS))
    runs = [open_run(name, results) for name in dict.fromkeys(run)]
    tables: list[tuple[Run, str, pd.DataFrame]] = []
    for opened in runs:
        table = comparison_table(opened)
        if table.empty:
            raise opened.missing("retrieval")
        chosen = {name: side_by_side(table, name) for name in dict.fromkeys(by)} if by else {"": table}
        tables += [(opened, name, rows) for name, rows in chosen.items()]
    if as_json or as_csv:
        # object columns: concatenating an all-empty column must not change another run's numbers
        named = [
            table.astype(object).assign(run=opened.name, **({"by": name} if name else {}))
            for opened, name, table in tables
        ]
        rows = pd.concat(named, ignore_index=True)
        first = [column for column in ("run", "by") if column in rows]
        rows = rows[[*first, *rows.columns.drop(first)]]
        if as_csv:
            rows.to_csv(sys.stdout, index=False, lineterminator="\n")
        else:
            print(json.dumps(rows.where(rows.notna(), None).to_dict("records"), indent=1, default=_plain))
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 240  # a pipe or a log has no width: do not fold cells
    for opened, name, table in tables:
        console.print(_rich_table(opened, name, table))


def _plain(value: object) -> object:
    """A numpy number as a plain one."""
    return value.item()  # type: ignore[attr-defined]


def _rich_table(run: Run, comparison: str, table: pd.DataFrame) -> Table:
    from rich.table import Table

    from longgen.reporting.comparison import readable_comparison
    from longgen.reporting.words import format_length

    rich_table = Table(
        title=f"{run.name}: {run.model_name} at {format_length(run.plan.trained_length)} tokens"
        + (f", by {comparison}" if comparison else ""),
        caption="measured, with 95 % intervals; KV cache and speed-ups relative to full attention",
    )
    readable = readable_comparison(table, "[bold]{}[/bold]")
    for heading in readable.columns:
        # columns without any measurement take no room
        if (readable[heading] != "").any():
            rich_table.add_column(
                heading, justify="left" if heading in ("variant", "what", "budget of", "full layers") else "right"
            )
    shown = readable.loc[:, (readable != "").any()]
    for row in shown.itertuples(index=False):
        rich_table.add_row(*row)
    return rich_table
