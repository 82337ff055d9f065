"""`longgen compare`: the ablation tables of cached runs, in the terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from longgen.cli.figures import Results
from longgen.errors import ConfigError
from longgen.reporting import need_report_packages

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from longgen.reporting.run import Run


def compare(
    run: Annotated[list[str], typer.Argument(help="Runs: NAME for results/NAME, or published/NAME.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list of rows instead.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead.")] = False,
    results: Results = Path("results"),
) -> None:
    """Compare the variants of one or several runs: quality with 95 % intervals and cost, the best values bold.

    All values are measured; what was not measured is empty.
    """
    if as_json and as_csv:
        raise ConfigError("--json and --csv are given: allowed is one of them")
    need_report_packages()
    import pandas as pd

    from longgen.reporting.ablation import ablation_table
    from longgen.reporting.run import open_run

    runs = [open_run(name, results) for name in dict.fromkeys(run)]
    tables = {opened.name: ablation_table(opened) for opened in runs}
    for opened in runs:
        if tables[opened.name].empty:
            raise opened.missing("retrieval")
    if as_json or as_csv:
        # object columns: concatenating an all-empty column must not change another run's numbers
        rows = pd.concat([table.astype(object).assign(run=name) for name, table in tables.items()], ignore_index=True)
        rows = rows[["run", *rows.columns.drop("run")]]
        if as_csv:
            rows.to_csv(sys.stdout, index=False, lineterminator="\n")
        else:
            print(json.dumps(rows.where(rows.notna(), None).to_dict("records"), indent=1, default=_plain))
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = 200  # a pipe or a log has no width: do not fold cells
    for opened in runs:
        console.print(_rich_table(opened, tables[opened.name]))


def _plain(value: object) -> object:
    """A numpy number as a plain one."""
    return value.item()  # type: ignore[attr-defined]


def _rich_table(run: Run, table: pd.DataFrame) -> Table:
    from rich.table import Table

    from longgen.reporting.ablation import readable_table
    from longgen.reporting.words import format_length

    rich_table = Table(
        title=f"{run.name}: {run.model_name} at {format_length(run.plan.trained_length)} tokens",
        caption="measured, with 95 % intervals; KV cache and speed-ups relative to full attention",
    )
    readable = readable_table(table, "[bold]{}[/bold]")
    for heading in readable.columns:
        # columns without any measurement take no room
        if (readable[heading] != "").any():
            rich_table.add_column(heading, justify="left" if heading in ("variant", "full layers") else "right")
    shown = readable.loc[:, (readable != "").any()]
    for row in shown.itertuples(index=False):
        rich_table.add_row(*row)
    return rich_table
